"""Layers by chance, laid over each other by us and by umoci: where both take them, the files are the same."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest
from tests.framework.containers import Member, file, folder, hard, layout, link, tar

from dayfly.build.container import layer
from dayfly.build.container.tree import Kind, Limits, Tree
from dayfly.errors import Refused

NAMES = ["a", "b", "c", "a/x", "b/x", "a/b", "a/b/x", "c/x"]
ROUNDS = 300
LEAST = 80
"""Containers that both take, of so many."""

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
    found: dict[str, tuple[str, object]] = {}
    links: dict[int, list[str]] = {}
    for name, node in tree.walk():
        if name:
            found[name] = (node.kind, {Kind.LINK: node.target, Kind.FILE: node.size}.get(node.kind))
        if node.kind is not Kind.FOLDER:
            links.setdefault(id(node), []).append(name)
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
            found[name] = (Kind.FOLDER, None) if path.is_dir() else (Kind.FILE, path.stat().st_size)
        if found[name][0] is not Kind.FOLDER:
            links.setdefault(path.lstat().st_ino, []).append(name)
    return found, sorted(map(sorted, links.values()))


def test_layers_by_chance(tmp_path: Path) -> None:
    both = 0
    for seed in range(ROUNDS):
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
    assert both > LEAST


def test_the_comparison_sees_a_difference(tmp_path: Path) -> None:
    place = tmp_path / "one"
    place.mkdir()
    layers = [tar(folder("a"), file("a/x")), tar(file("a/.wh..wh..opq"))]
    assert ours(layers, place) == theirs(layers, place)
    with pytest.raises(AssertionError):
        assert ours(layers[:1], place) == theirs(layers, tmp_path / "two")
