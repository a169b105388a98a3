"""What runs in the other processes of these tests."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.unit.image.examples import CONFIG, LAYERS

from dayfly.image.library import Library, Source
from dayfly.image.manifest import Role
from dayfly.image.reference import Name, parse


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def layers(number: int) -> dict[Role, Source]:
    """Layers of an image of its own, large enough that storing them takes a while."""
    return {**LAYERS, Role.ROOT: Source("erofs", b"%08d" % number * 100_000)}


def add_many(folder: str, first: int, count: int) -> None:
    """Add images one after another."""
    library = Library(Path(folder))
    _say("ready")
    for number in range(first, first + count):
        library.add(CONFIG, layers(number), Name("image", str(number)))


def hold(folder: str, name: str) -> None:
    """Hold an image open until killed, as a running machine does."""
    image = Library(Path(folder)).open(parse(name))
    _say(image.digest)
    time.sleep(600)


def collect_many(folder: str, count: int) -> None:
    """Collect over and over."""
    library = Library(Path(folder))
    _say("ready")
    for _ in range(count):
        library.collect()


if __name__ == "__main__":
    function, *arguments = sys.argv[1:]
    globals()[function](arguments[0], *(int(text) if text.isdigit() else text for text in arguments[1:]))
