"""What all tests share: the options of `make test` and `make soak`, a library with real images, and a site of each test's own."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from dayfly.build.recipe import find
from dayfly.image.library import Library
from tests.framework.site import Site, eventually

# How long an example takes says what else runs on this host, and nothing of the code.
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")

TEST_LIBRARY = Path(__file__).parent.parent / "build/test-library"


def pytest_configure() -> None:
    """What a shell ignores in its background jobs (`nohup make test &`), no test's child may inherit: tests send signals."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGTSTP, signal.SIGUSR1, signal.SIGUSR2):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="many rounds of faults too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--soak"):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("soak")])
        items[:] = [item for item in items if not item.get_closest_marker("soak")]


def build(recipe: str, library: Path) -> str:
    """Build a recipe into the tests' library, once for all workers and later runs, until it changes: the image's name."""
    wanted = find(recipe)
    library.mkdir(parents=True, exist_ok=True)
    settings = library / "settings.toml"
    settings.write_text(f'[library]\nuser = "{library}"\n')
    environment = {**os.environ, "DAYFLY_SETTINGS": str(settings)}
    command = [sys.executable, "-m", "dayfly", "image"]
    with (library / "tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shown = subprocess.run(
            [*command, "show", f"user/{wanted.name}", "--json"], env=environment, capture_output=True, check=False
        )
        if shown.returncode != 0 or json.loads(shown.stdout)["config"]["recipe"] != wanted.digest:
            subprocess.run([*command, "build", recipe], env=environment, check=True)
    return str(wanted.name)


@pytest.fixture(scope="session")
def rounds(pytestconfig: pytest.Config) -> int:
    """How many times a test ends something at a moment that dice choose: 50 in a soak."""
    return 50 if pytestconfig.getoption("--soak") else 15


@pytest.fixture(scope="session")
def library() -> Path:
    """A library that holds debian:12."""
    build("debian:12", TEST_LIBRARY)
    return TEST_LIBRARY


@pytest.fixture(scope="session")
def system_image(library: Path) -> str:
    """The name of an image that boots its own systemd."""
    return build("debian:12-system", library)


@pytest.fixture(scope="session")
def own_system_image(library: Path) -> str:
    """The name of an image with its own systemd that was built as a user would do it."""
    return build(str(Path(__file__).parent / "framework/debian-12-own-system.toml"), library)


@pytest.fixture(scope="session")
def ssh_image(library: Path) -> str:
    """The name of an image with an ssh server."""
    return build(str(Path(__file__).parent / "framework/debian-12-ssh.toml"), library)


@pytest.fixture
def site(tmp_path: Path, library: Path) -> Iterator[Site]:
    """A site of the test's own; afterwards nothing of its machines may be left.

    All share a folder of templates, as jobs of one user do, or most of the time would go into making them.
    """
    site = Site(tmp_path / "site", library, library / "templates")
    yield site
    with contextlib.suppress(AssertionError):  # a test may have killed what ran at its end, and the kernel takes a moment
        eventually(lambda: not site.leftovers())
    assert site.leftovers() == []


@pytest.fixture
def own_templates(site: Site) -> Path:
    """A folder of templates that is the test's alone, and empty."""
    site.templates = site.folder / "cache/templates"
    site.configure()
    return site.templates


@pytest.fixture
def own_library(site: Site) -> Library:
    """The site's library copied into the site, to be changed or damaged."""
    copy = site.work / "library"
    copy.mkdir()
    for part in ("oci-layout", "index.json"):
        shutil.copy(site.library / part, copy / part)
    shutil.copytree(site.library / "blobs", copy / "blobs")
    site.configure(library_user=str(copy))
    return Library(copy)
