"""Filesystems that mke2fs makes, read by our own code, and compared with what debugfs says of them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.framework.disks import ext, run
from tests.framework.headers import opened

from dayfly.errors import Refused
from dayfly.imagebuild.containerimage import archive
from dayfly.imagebuild.containerimage.tree import Kind, Limits, Node, Tree
from dayfly.imagebuild.disk.ext import Filesystem

KINDS = {
    "ext2": ("ext2", ()),
    "ext3": ("ext3", ()),
    "ext4": ("ext4", ()),
    "small blocks": ("ext4", ("-b", "1024")),
    "old inodes": ("ext2", ("-I", "128", "-b", "1024")),
    "clusters": ("ext4", ("-O", "bigalloc")),
    "clusters of small blocks": ("ext4", ("-O", "bigalloc,^has_journal", "-b", "1024")),
    "no 64bit, inline": ("ext4", ("-O", "^64bit,inline_data,^metadata_csum", "-I", "256")),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of all kinds."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "many").mkdir()
    for number in range(700):  # more than a folder's first block, so that it gets an index
        (folder / "many" / f"file-with-a-long-name-{number:04}").write_text(str(number) * 8)
    (folder / "empty").touch(0o600)
    with (folder / "holes").open("wb") as file:
        for at in range(0, 40, 2):
            file.seek(at * 65536)
            file.write(os.urandom(5000))
        file.write(b"end")  # with inline_data, mke2fs 1.47 forgets a hole at the end
    (folder / "large").write_bytes(os.urandom(9_000_000))
    (folder / "short").symlink_to("empty")
    (folder / "long").symlink_to("x" * 200 + "/" + "y" * 600)
    os.link(folder / "large", folder / "many/hard")
    os.mkfifo(folder / "pipe", 0o620)
    (folder / "capable").write_text("x")
    (folder / "capable").chmod(0o4755)
    os.setxattr(folder / "capable", "user.note", b"n" * 40)
    os.utime(folder / "empty", (1_234_567_890, 1_234_567_890))
    (folder / os.fsdecode(b"not-UTF-8-\xff")).write_text("x")
    return folder


def tree_of(image: Path, limits: Limits | None = None) -> Tree:
    with opened(image) as file:
        tree = Tree(limits or Limits(), 0)
        tree.root = Filesystem(file, 0, image.stat().st_size, tree._limits).tree()
    return tree


@pytest.mark.parametrize("kind", KINDS)
def test_all_is_read_as_it_was_written(files: Path, tmp_path: Path, kind: str) -> None:
    form, options = KINDS[kind]
    image = ext(tmp_path / "image", files, 40, *options, kind=form)
    found: dict[str, Node] = dict(tree_of(image).walk())
    written = {str(path.relative_to(files)): path for path in files.rglob("*")}
    assert set(found) - {"", "lost+found"} == set(written)
    with opened(image) as file:
        for name, path in written.items():
            node, about = found[name], path.lstat()
            assert node.attributes.mtime == int(about.st_mtime), name
            assert (node.attributes.mode, node.attributes.uid, node.attributes.gid) == (
                about.st_mode & 0o7777,
                about.st_uid,
                about.st_gid,
            )
            if node.kind is Kind.FILE:
                assert archive.content(node, [file], 1 << 30) == path.read_bytes(), name
            elif node.kind is Kind.LINK:
                assert node.target == str(path.readlink())
    assert found["large"] is found["many/hard"]
    assert found["pipe"].kind is Kind.FIFO
    assert dict(found["capable"].attributes.extended) == {"user.note": "n" * 40}
    holes = found["holes"].content
    assert holes is not None
    assert sum(length for _, _, length in holes.parts) < holes.size / 5


def test_debugfs_says_the_same(files: Path, tmp_path: Path) -> None:
    image = ext(tmp_path / "image", files, 40)
    found = dict(tree_of(image).walk())
    for path in ("many", ""):
        listed = run("debugfs", "-R", f"ls -p /{path}", image, errors="surrogateescape")
        seen = {line.split("/")[5]: line.split("/") for line in listed.splitlines() if line.count("/") >= 7}
        below = {name.rpartition("/")[2]: node for name, node in found.items() if name and name.rpartition("/")[0] == path}
        assert set(seen) - {".", ".."} == set(below)
        for name, node in below.items():
            assert int(seen[name][2], 8) & 0o7777 == node.attributes.mode, name
    dumped = tmp_path / "dumped"
    run("debugfs", "-R", f"dump /holes {dumped}", image)
    with opened(image) as file:
        assert archive.content(found["holes"], [file], 1 << 30) == dumped.read_bytes()


def test_limits(files: Path, tmp_path: Path) -> None:
    image = ext(tmp_path / "image", files, 40)
    for limits, why in (
        (Limits(entries=100), "more than the limit of 100 names"),
        (Limits(size=1000), "larger than"),
        (Limits(depth=1), "deep"),
    ):
        with pytest.raises(Refused, match=why):
            tree_of(image, limits)
    with pytest.raises(Refused, match="larger than its partition"), opened(image) as file:
        Filesystem(file, 0, 1024**2, Limits())
    run("debugfs", "-w", "-R", "feature encrypt", image)
    with pytest.raises(Refused, match="encryption"):
        tree_of(image)


def test_times_after_2038(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/late").touch()
    image = ext(tmp_path / "image", tmp_path / "in", 4)
    _field(image, "/late", "mtime", "@705032704")
    _field(image, "/late", "mtime_extra", "1")
    assert dict(tree_of(image).walk())["late"].attributes.mtime == 5_000_000_000


def _field(image: Path, path: str, field: str, value: str) -> None:
    run("debugfs", "-w", "-R", f"sif {path} {field} {value}", image)


def test_a_folder_that_is_in_itself(tmp_path: Path) -> None:
    (tmp_path / "in/a/b").mkdir(parents=True)
    image = ext(tmp_path / "image", tmp_path / "in", 4)
    run("debugfs", "-w", "-R", "link /a /a/b/again", image)
    with pytest.raises(Refused, match="with two names"):
        tree_of(image)


def test_parts_outside(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/file").write_bytes(bytes(range(256)) * 64)
    image = ext(tmp_path / "image", tmp_path / "in", 4, "-O", "^extents", kind="ext2")
    _field(image, "/file", "block[0]", "4000000")
    with pytest.raises(Refused, match="beyond its end"):
        tree_of(image)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[int]]:
    """A small filesystem, and where in it are numbers that lead somewhere."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "in/a").mkdir(parents=True)
    (folder / "in/a/file").write_bytes(b"x" * 5000)
    (folder / "in/link").symlink_to("z" * 100)
    os.setxattr(folder / "in/a/file", "user.note", b"n" * 300)
    image = ext(folder / "image", folder / "in", 1, "-b", "1024", "-N", "16")
    content = image.read_bytes()
    return content, [match.start() for match in re.finditer(rb"[^\0]", content)]


@given(st.data())
def test_damage_is_read_or_refused(small: tuple[bytes, list[int]], data: st.DataObject) -> None:
    content, places = bytearray(small[0]), small[1]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.sampled_from(places))
        content[at : at + 2] = data.draw(st.binary(min_size=2, max_size=2))
    with opened(bytes(content)) as file:
        try:
            tree = Tree(Limits(size=1 << 30, entries=1000), 0)
            tree.root = Filesystem(file, 0, len(content), Limits(size=1 << 30, entries=1000)).tree()
            for _, node in tree.walk():
                if node.content:
                    assert all(0 <= place <= place + length <= len(content) for _, place, length in node.content.parts)
        except Refused:
            return


def test_a_filesystem_cut_short(small: tuple[bytes, list[int]]) -> None:
    with opened(small[0][:4096]) as file, pytest.raises(Refused, match="damaged"):
        Filesystem(file, 0, len(small[0]), Limits()).tree()
