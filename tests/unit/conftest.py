"""Unit tests start no process: here, one that does fails."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

_STARTS = frozenset(
    {"subprocess.Popen", "os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "pty.spawn"}
)
_watched: list[str] = []


def _watch(event: str, _: object) -> None:
    if _watched and event in _STARTS:
        raise AssertionError(f"{_watched[-1]} starts a process ({event})")


sys.addaudithook(_watch)


@pytest.fixture(autouse=True)
def starts_no_process(request: pytest.FixtureRequest) -> Iterator[None]:
    """Refuse to start any while the test runs."""
    _watched.append(request.node.nodeid)
    yield
    _watched.pop()
