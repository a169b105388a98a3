"""What the tests of images that are made here share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.framework.site import Site, allowing


@pytest.fixture
def importing(site: Site, library: Path) -> Iterator[Site]:
    """A site with a library of its own, whose files are the tests' own."""
    target = site.work.parent / "work/library"
    (target / "blobs").mkdir(parents=True)
    shutil.copytree(library / "blobs/sha256", target / "blobs/sha256", copy_function=os.link)
    for name in ("oci-layout", "index.json"):
        shutil.copy(library / name, target / name)
    reachable = Path(f"/var/tmp/dayfly-test-{os.getpid()}")  # by root's other ids, which pytest's own folders are not
    reachable.mkdir(mode=0o755)
    site.configure(library_user=str(target), scratch_folder=str(reachable), policy_user=str(allowing(site, "*")))
    yield site
    left = list(reachable.iterdir())
    shutil.rmtree(reachable)
    assert left == []


def imported(site: Site, *words: str) -> None:
    done = site.dayfly("image", "import", *words)
    assert done.status == 0, done.err
