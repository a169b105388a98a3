"""A library that several processes use at once, and that some of them are killed in the middle of."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.library.helpers import layers
from tests.unit.image.examples import CONFIG

from dayfly.image.library import Library
from dayfly.image.reference import Name, parse

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def helper(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that runs one of the helpers, and the first line it wrote."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}/src:{ROOT}"}
    command = [sys.executable, "-m", "tests.library.helpers", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "library")


def whole(library: Library) -> None:
    """The library has nothing broken in it, and after a collection nothing superfluous."""
    verified = library.verify()
    assert verified.bad == ()
    library.collect()
    assert {path.name for path in library.layout.folder.iterdir()} == {".dayfly", "blobs", "index.json", "oci-layout"}
    needed = set()
    for image in library.images():
        assert image.problem == ""
        with library.open(parse(image.digest)) as opened:
            needed |= {blob.digest for blob in opened.blobs}
        digest, manifest, _ = library.inspect(parse(image.digest))
        needed |= {digest, manifest.config.digest}
    assert {f"sha256:{path.name}" for path in library.layout.blobs.iterdir()} == needed


@pytest.mark.parametrize("seed", range(5))
def test_a_kill_while_adding_leaves_a_whole_library(library: Library, seed: int) -> None:
    chance = random.Random(seed)
    library.create()
    library.add(CONFIG, layers(0), Name("image", "0"))
    for number in range(10):
        with helper("add_many", library.layout.folder, 1 + number * 100, 100) as (process, line):
            assert line == "ready"
            time.sleep(chance.uniform(0.0, 0.15))
            process.kill()
        assert library.verify().bad == ()
        assert all(image.problem == "" for image in library.images())
    library.open(parse("image:0")).close()
    whole(library)


def test_two_processes_add_at_once(library: Library) -> None:
    with (
        helper("add_many", library.layout.folder, 0, 30) as (first, _),
        helper("add_many", library.layout.folder, 15, 30) as (second, _),
    ):
        assert (first.wait(60), second.wait(60)) == (0, 0)
    assert {image.name for image in library.images()} == {f"image:{number}" for number in range(45)}
    whole(library)


def test_collecting_while_others_add_takes_nothing_of_theirs(library: Library) -> None:
    library.create()
    with (
        helper("add_many", library.layout.folder, 0, 30) as (first, _),
        helper("collect_many", library.layout.folder, 300) as (collecting, _),
        helper("add_many", library.layout.folder, 20, 30) as (second, _),
    ):
        assert (first.wait(60), second.wait(60), collecting.wait(60)) == (0, 0, 0)
    assert {image.name for image in library.images()} == {f"image:{number}" for number in range(50)}
    whole(library)


def test_what_a_running_machine_uses_is_not_collected(library: Library) -> None:
    digest = library.add(CONFIG, layers(1), Name("image", "1"))
    library.add(CONFIG, layers(2), Name("image", "2"))
    with library.open(parse("image:1")) as image:
        root = image.root
    with helper("hold", library.layout.folder, "image:1") as (process, line):
        assert line == digest
        library.remove(parse("image:1"))
        collected = library.collect()
        assert root.digest in collected.in_use
        assert root.path.exists()
        process.kill()
        process.wait()
        collected = library.collect()
        assert collected.in_use == ()
        assert root.digest in collected.removed
    whole(library)


def test_an_image_that_was_removed_while_open_stays_readable(library: Library) -> None:
    library.add(CONFIG, layers(1), Name("image", "1"))
    with library.open(parse("image:1")) as image:
        image.root.path.unlink()
        assert os.pread(image.root.file, 8, 0) == b"00000001"


def test_somebody_who_locks_a_blob_does_not_hinder_its_use(library: Library) -> None:
    library.add(CONFIG, layers(1), Name("image", "1"))
    with library.open(parse("image:1")) as image:
        path = image.root.path
    with path.open("rb") as hostile:
        fcntl.flock(hostile, fcntl.LOCK_EX)
        library.open(parse("image:1")).close()  # would wait for ever


def test_opening_while_others_collect_and_add_gives_the_image_or_says_that_it_is_gone(library: Library) -> None:
    library.create()
    with helper("collect_many", library.layout.folder, 2000) as (collecting, _):
        for number in range(40):
            library.add(CONFIG, layers(number), Name("image", "x"))
            with library.open(parse("image:x")) as image:
                assert os.pread(image.root.file, 8, 0) == b"%08d" % number
            library.remove(parse(image.digest))
        assert collecting.poll() is None or collecting.returncode == 0
    whole(library)
