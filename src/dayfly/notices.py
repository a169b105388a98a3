"""What a user is told beside a result. Code below the command line is given a `Notify`, and never writes to a stream itself."""

from __future__ import annotations

from collections.abc import Callable

Notify = Callable[[str], None]
"""Takes one notice, a line. Raises nothing."""


def ignore(_: str) -> None:
    """A `Notify` for callers that want to hear nothing."""
