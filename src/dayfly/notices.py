"""Notices: messages to the user besides a result. Code below the command line gets a `Notify`, and never writes to a stream
itself.
"""

from __future__ import annotations

from collections.abc import Callable

Notify = Callable[[str], None]
"""Receives one notice, a line. Never raises."""


def ignore(_: str) -> None:
    """A `Notify` that drops what it receives."""
