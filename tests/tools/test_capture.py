"""What the agent writes of a folder, read as the host reads it: the same files, whatever they are called and made of."""

from __future__ import annotations

import itertools
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.imagebuild.containerimage import archive, layer
from dayfly.imagebuild.containerimage.tree import Kind, Limits, Node, Tree

GUEST = Path(__file__).parents[2] / "guest"
FORBIDDEN = (b".", b"..")
LONGEST = 254
NAMES = st.one_of(
    st.binary(min_size=1, max_size=LONGEST).filter(lambda name: not {b"/"[0], 0} & set(name) and name not in FORBIDDEN),
    st.sampled_from([b".wh.x", b".wh..wh..opq", b".wh.", b".wh..wh.plnk", b"a\nb", b"\xff" * LONGEST]),
)
TIMES = st.lists(st.integers(-(2**31) * 10**9, 2**33 * 10**9), min_size=1, max_size=5)
"""Nanoseconds since the epoch, before 1970 too: what filesystems with small inodes hold."""
CONTENT = st.lists(st.tuples(st.integers(0, 300), st.binary(max_size=5000)), max_size=5)
"""Of a file: pages that are left out, and what comes then."""
LEAVES = st.one_of(
    st.tuples(st.just("file"), CONTENT, st.integers(0, 0o7777)),
    st.tuples(st.just("link"), st.binary(min_size=1, max_size=300).filter(lambda text: b"\0" not in text), st.just(0)),
    st.tuples(st.just("again"), st.just(b""), st.just(0)),
    st.tuples(st.just("fifo"), st.just(b""), st.integers(0, 0o777)),
)
TREES = st.recursive(
    st.dictionaries(NAMES, LEAVES, max_size=4), lambda inner: st.dictionaries(NAMES, LEAVES | inner, max_size=4), max_leaves=12
)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("agent") / "agent"
    sources = sorted(map(str, GUEST.glob("*.c")))
    subprocess.run(["cc", "-std=gnu11", "-O1", "-static", "-o", program, *sources], check=True)
    return program


def captured(agent: Path, folder: Path, *rules: str) -> subprocess.CompletedProcess[bytes]:
    script = 'mount -t tmpfs none /run && exec "$@"'
    before = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    return subprocess.run([*before, str(agent), "capture", str(folder), *rules], capture_output=True, check=False)


def fill(folder: Path, tree: Mapping[bytes, object], made: list[Path], times: Iterator[int]) -> None:
    for name, about in tree.items():
        path = folder / os.fsdecode(name)
        if isinstance(about, Mapping):
            path.mkdir()
            fill(path, about, made, times)
        else:
            make(path, about, made)
        time = next(times)
        os.utime(path, ns=(time, time), follow_symlinks=False)


def make(path: Path, about: object, made: list[Path]) -> None:
    assert isinstance(about, tuple)
    kind, content, mode = about
    if kind == "link":
        os.symlink(content, os.fsencode(path))  # noqa: PTH211 (a Path would tidy the target up)
    elif kind == "fifo":
        os.mkfifo(path, mode)
    elif kind == "again" and made:
        path.hardlink_to(made[0])
    else:
        with path.open("wb") as file:
            for pages, part in content or []:
                file.seek(pages * 4096, os.SEEK_CUR)
                file.write(part)
            file.truncate()
        os.setxattr(path, "user.overlay.note", b"=\n" + bytes([mode & 0xFF]))
        path.chmod(mode | 0o400)
        made.append(path)


def compare(path: Path, node: Node, found: list[int], seen: dict[int, int]) -> None:
    status = path.lstat()
    assert seen.setdefault(status.st_ino, id(node)) == id(node), "hard links"
    assert (node.attributes.uid, node.attributes.gid, node.attributes.mtime) == (0, 0, status.st_mtime_ns // 10**9)
    assert node.attributes.mode == stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        assert (node.kind, node.target) == (Kind.LINK, os.readlink(path))  # noqa: PTH115 (likewise)
    elif stat.S_ISFIFO(status.st_mode):
        assert node.kind is Kind.FIFO
    elif stat.S_ISREG(status.st_mode):
        assert archive.content(node, found, 1 << 30) == path.read_bytes()
        found_there = {name: os.fsdecode(os.getxattr(path, name)) for name in os.listxattr(path) if name.startswith("user.")}
        assert dict(node.attributes.extended) == found_there
        assert node.content is not None
        assert sum(length for _, _, length in node.content.parts) <= max(status.st_blocks * 512, status.st_size % 4096)
    else:
        assert set(node.children) == {child.name for child in path.iterdir()}
        for name, child in node.children.items():
            compare(path / name, child, found, seen)


@given(TREES, TIMES)
def test_any_tree_is_read_as_it_is(
    agent: Path, tmp_path_factory: pytest.TempPathFactory, tree: dict[bytes, object], times: list[int]
) -> None:
    work = tmp_path_factory.mktemp("tree")
    (work / "root").mkdir()
    try:
        fill(work / "root", tree, [], itertools.cycle(times))
        done = captured(agent, work / "root")
        assert (done.returncode, done.stderr) == (0, b"")
        (work / "tar").write_bytes(done.stdout)
        read = Tree(Limits(), 0)
        read.apply(layer.entries(work / "tar", 0, 1000, captured=True), hides=False)
        with (work / "tar").open("rb") as file:
            compare(work / "root", read.root, [file.fileno()], {})
    finally:
        shutil.rmtree(work)


def test_more_parts_than_a_map_has(agent: Path, tmp_path: Path) -> None:
    """Some holes are written out then, and none is lost."""
    (tmp_path / "root").mkdir()
    with (tmp_path / "root/holes").open("wb") as file:
        for number in range(17_000):
            os.pwrite(file.fileno(), b"x", number * 8192)
    done = captured(agent, tmp_path / "root")
    assert done.returncode == 0, done.stderr
    (tmp_path / "tar").write_bytes(done.stdout)
    (entry,) = [entry for entry in layer.entries(tmp_path / "tar", 0, 10) if entry.path == "holes"]
    assert entry.node is not None
    with (tmp_path / "tar").open("rb") as packed:
        found = archive.content(entry.node, [packed.fileno()], 1 << 30)
    assert found == (tmp_path / "root/holes").read_bytes()


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        (["nonsense:x"], b"nonsense:x: neither parents:PATTERN nor made:PATH"),
        (["made:x"], b"/proc/cmdline does not name the root: invalid argument"),
    ],
)
def test_what_cannot_be_written_is_told(agent: Path, tmp_path: Path, rules: list[str], told: bytes) -> None:
    done = captured(agent, tmp_path, *rules)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", told)
    missing = captured(agent, tmp_path / "none")
    assert missing.returncode == 1
    assert missing.stderr.endswith(b"no such file or directory")


def test_folders_that_are_too_deep(agent: Path, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    here = Path.cwd()
    try:
        os.chdir(tmp_path / "root")
        for _ in range(300):
            Path("d").mkdir()
            os.chdir("d")
    finally:
        os.chdir(here)
    done = captured(agent, tmp_path / "root")
    assert done.returncode == 1
    assert done.stderr.startswith(b"/d/d/")
    subprocess.run(["rm", "-r", tmp_path / "root"], check=True)
