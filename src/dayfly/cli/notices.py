"""What the command line tells the user beside a result: a `dayfly.notices.Notify` that writes to stderr."""

from __future__ import annotations

import sys


def warn(line: str) -> None:
    """Print a line to stderr in the form of all Dayfly messages. It is dropped if stderr cannot be written to."""
    try:
        sys.stderr.write(f"dayfly: {line}\n")
        sys.stderr.flush()
    except OSError:  # closed or full
        return
