"""Layers by chance, laid over each other by us and by umoci: where both take them, the files are the same.

Of damaged ones too: what umoci refuses we refuse, and what we take is what umoci makes of it.
"""

from __future__ import annotations

import io
import os
import random
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.framework.containers import Member, file, folder, hard, layout, link, tar

from dayfly.errors import Refused
from dayfly.imagebuild.containerimage import archive, layer
from dayfly.imagebuild.containerimage.tree import Kind, Limits, Tree

NAMES = ["a", "b", "c", "a/x", "b/x", "a/b", "a/b/x", "c/x"]

Seen = tuple[dict[str, tuple[str, object]], list[list[str]]]


def some(chance: random.Random) -> bytes:
    """A layer whose folders come before what is in them.

    No tool makes whiteouts below a link of the same layer, which could mean what it leads to now or did before: there are none.
    """
    members: list[Member] = []
    for name in chance.sample(NAMES, chance.randint(1, 6)):
        above, _, last = name.rpartition("/")
        kinds = [
            *[file(name, name.encode() * chance.randint(1, 3))] * 35,
            *[folder(name, mode=chance.choice([0o755, 0o700]))] * 25,
            *[link(name, chance.choice(["a", "b", "/c", "../b", "x"]))] * 10,
            *[hard(name, chance.choice(NAMES))] * 3,
            *[file(os.path.join(above, f".wh.{last}"))] * 15,  # noqa: PTH118 (no path of the host's)
            *[file(os.path.join(above, ".wh..wh..opq"))] * 8,  # noqa: PTH118
        ]
        members.append(chance.choice(kinds))
    links = {info.name for info, _ in members if info.issym()}
    kept = [member for member in members if ".wh." not in member[0].name or member[0].name.rpartition("/")[0] not in links]
    return tar(*sorted(kept, key=lambda member: member[0].name.count("/")))


def ours(layers: list[bytes], place: Path) -> Seen:
    tree = Tree(Limits(), 0)
    for number, content in enumerate(layers):
        path = place / f"layer{number}"
        path.write_bytes(content)
        tree.apply(layer.entries(path, number, 1000))
    opened = [os.open(place / f"layer{number}", os.O_RDONLY) for number in range(len(layers))]
    found: dict[str, tuple[str, object]] = {}
    links: dict[int, list[str]] = {}
    for name, node in tree.walk():
        if name:
            what = {Kind.LINK: node.target, Kind.FILE: archive.content(node, opened, 1 << 20)}.get(node.kind)
            found[name] = (node.kind, (what, node.attributes.mtime) if node.kind is Kind.FILE else what)
        if node.kind is not Kind.FOLDER:
            links.setdefault(id(node), []).append(name)
    for one in opened:
        os.close(one)
    return found, sorted(map(sorted, links.values()))


def theirs(layers: list[bytes], place: Path) -> Seen | None:
    layout(place / "lay", *layers, tag="1")
    rootless = [] if os.geteuid() == 0 else ["--rootless"]
    command = ["umoci", "unpack", *rootless, "--image", f"{place}/lay:1", str(place / "bundle")]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        return None
    found: dict[str, tuple[str, object]] = {}
    links: dict[int, list[str]] = {}
    root = place / "bundle/rootfs"
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = (Kind.LINK, str(path.readlink()))
        else:
            found[name] = (
                (Kind.FOLDER, None) if path.is_dir() else (Kind.FILE, (path.read_bytes(), path.stat().st_mtime_ns // 10**9))
            )
        if found[name][0] is not Kind.FOLDER:
            links.setdefault(path.lstat().st_ino, []).append(name)
    return found, sorted(map(sorted, links.values()))


def test_layers_by_chance(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    both = 0
    seeds = 300 if pytestconfig.getoption("--soak") else 60
    for seed in range(seeds):
        chance = random.Random(seed)
        layers = [some(chance) for _ in range(chance.randint(2, 3))]
        place = tmp_path / str(seed)
        place.mkdir()
        try:
            mine = ours(layers, place)
        except Refused:
            continue
        other = theirs(layers, place)
        if other is not None:
            both += 1
            assert mine == other, f"seed {seed}"
    assert both > seeds // 4


def test_the_comparison_sees_a_difference(tmp_path: Path) -> None:
    place = tmp_path / "one"
    place.mkdir()
    layers = [tar(folder("a"), file("a/x")), tar(file("a/.wh..wh..opq"))]
    assert ours(layers, place) == theirs(layers, place)
    with pytest.raises(AssertionError):
        assert ours(layers[:1], place) == theirs(layers, tmp_path / "two")


FORMATS = [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def plain(chance: random.Random) -> bytes:
    """A layer that both take, in the forms that tools write."""
    names = [
        f"{'folder/' * chance.randint(0, 20)}{'x' * chance.randint(1, 120)}{number}" for number in range(chance.randint(2, 5))
    ]
    names[0] = "ä" * 60
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:", format=chance.choice(FORMATS)) as opened:
        for name in names:
            content = chance.choice([b"", b"x", bytes(512), bytes(1024), chance.randbytes(chance.randint(1, 2000))])
            times = [1_700_000_000.75, -5, -1.5, 0] if opened.format == tarfile.PAX_FORMAT else [1_700_000_000, 5]
            info, _ = file(name, content, mtime=chance.choice(times))
            opened.addfile(info, io.BytesIO(content))
        info, _ = link("link", names[0])
        opened.addfile(info)
        info, _ = hard("hard", names[0])
        opened.addfile(info)
    return target.getvalue()


def _at_block(whole: bytes, chance: random.Random) -> int:
    return chance.randrange(len(whole.rstrip(b"\0")) // 512 + 1) * 512


def _flipped(whole: bytes, chance: random.Random) -> bytes:
    """A byte of a header that is another one, most often."""
    headers = [at for at in range(0, len(whole) - 512, 512) if whole[at + 257 : at + 262] == b"ustar"]
    at = chance.choice(headers) + chance.choice([0, 100, 124, 135, 136, 148, 156, 157, 257, 345, 512, 514, 520])
    return whole[:at] + bytes([whole[at] ^ chance.randint(1, 255)]) + whole[at + 1 :]


def _cut(whole: bytes, chance: random.Random) -> bytes:
    end = chance.randrange(len(whole.rstrip(b"\0")) + 1100)
    return whole[:end]


def _zeros(whole: bytes, chance: random.Random) -> bytes:
    at = _at_block(whole, chance)
    return whole[:at] + bytes(512) + whole[at:]


def _without_a_block(whole: bytes, chance: random.Random) -> bytes:
    at = _at_block(whole, chance)
    return whole[:at] + whole[at + 512 :]


def _with_more(whole: bytes, chance: random.Random) -> bytes:
    return whole + chance.choice([bytes(512 * 7), b"junk", whole])


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "none": lambda whole, chance: whole,
    "a byte": _flipped,
    "cut": _cut,
    "zeros": _zeros,
    "a block less": _without_a_block,
    "more at its end": _with_more,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_layers(tmp_path: Path, pytestconfig: pytest.Config, damage: str) -> None:
    """Never fewer files than umoci makes, nor any where umoci makes none: by the file itself, not by digests of it."""
    taken = refused = 0
    for seed in range(300 if pytestconfig.getoption("--soak") else 25):
        chance = random.Random(f"{damage} {seed}")
        layers = [DAMAGES[damage](plain(chance), chance)]
        place = tmp_path / f"{damage}{seed}"
        place.mkdir()
        other = theirs(layers, place)
        try:
            mine = ours(layers, place)
        except Refused:
            refused += 1
            continue
        assert other is not None, f"seed {seed}: umoci refuses it"
        assert mine == other, f"seed {seed}"
        taken += 1
    assert taken if damage in ("none", "more at its end") else refused
