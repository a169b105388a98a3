"""What all tests share: the options of `make test` and `make soak`, a library with real images, and a site of each test's own."""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

from dayfly.image.library import Library
from tests.framework import images
from tests.framework.site import Site, copy_library, eventually

EXAMPLES = 30
"""How many examples a generated test tries."""
SOAK_EXAMPLES = 500
FAILED = pytest.StashKey[bool]()
"""Whether a test has failed."""


def pytest_configure(config: pytest.Config) -> None:
    # No deadline: how long an example takes depends on what else runs on this host.
    examples = SOAK_EXAMPLES if config.getoption("--soak") else EXAMPLES
    slow = [hypothesis.HealthCheck.too_slow]
    hypothesis.settings.register_profile("dayfly", max_examples=examples, deadline=None, suppress_health_check=slow)
    hypothesis.settings.load_profile("dayfly")
    _reset_signals()


def _reset_signals() -> None:
    """What a shell ignores in its background jobs (`nohup make test &`), no test's child may inherit: tests send signals."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGTSTP, signal.SIGUSR1, signal.SIGUSR2):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="many rounds of faults too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--soak"):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("soak")])
        items[:] = [item for item in items if not item.get_closest_marker("soak")]


@pytest.fixture(scope="session")
def rounds(pytestconfig: pytest.Config) -> int:
    """How many times a test ends something at a moment that dice choose: 50 in a soak."""
    return 50 if pytestconfig.getoption("--soak") else 3


@pytest.fixture(scope="session")
def clones(pytestconfig: pytest.Config) -> int:
    """How many machines of one template are compared with each other."""
    return 50 if pytestconfig.getoption("--soak") else 8


@pytest.fixture(scope="session")
def library() -> Path:
    """A library that holds debian:12."""
    images.build(images.PLAIN)
    return images.TEST_LIBRARY


@pytest.fixture(scope="session")
def system_image(library: Path) -> str:
    """The name of an image that boots its own systemd."""
    return images.build(images.SYSTEM)


@pytest.fixture(scope="session")
def own_system_image(library: Path) -> str:
    """The name of an image with its own systemd that was built as a user would do it."""
    return images.build(images.OWN_SYSTEM)


@pytest.fixture(scope="session")
def ssh_image(library: Path) -> str:
    """The name of an image with an ssh server."""
    return images.build(images.SSH)


@pytest.fixture
def site(library: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """A site of the test's own; afterwards nothing of its machines may be left.

    All share a folder of templates, as jobs of one user do, or most of the time would go into making them. It is not in pytest's
    folders, because other users have to reach some sites: each pytest that starts closes the folder of all to them.
    """
    folder = Path(tempfile.mkdtemp(prefix="dayfly-site-", dir="/var/tmp"))
    site = Site(folder / "site", library, library / "templates")
    yield site
    with contextlib.suppress(AssertionError):  # a test may have killed what ran at its end, and the kernel takes a moment
        eventually(lambda: not site.leftovers())
    assert site.leftovers() == []
    if not request.node.stash.get(FAILED, False):  # else somebody wants to see it
        shutil.rmtree(folder)


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
    copy_library(site.library, copy)
    site.configure(library_user=str(copy))
    return Library(copy)
