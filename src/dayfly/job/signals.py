"""The signals that are handled for a job and its machine. On the hot path of every job."""

from __future__ import annotations

from signal import SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGWINCH, Signals

from dayfly import inherited

TYPE_CHECKING = False  # typing's own costs an import at every start, and checkers know the name
if TYPE_CHECKING:
    from collections.abc import Iterable

ENDING = frozenset((SIGTERM, SIGINT, SIGHUP, SIGQUIT))
"""Signals that request the job's end."""
HELD = ENDING | {SIGUSR1, SIGUSR2, SIGTSTP, SIGWINCH}
"""These are blocked from the spawn on until they can be handled for the machine; those that do not request the end of the job,
also while a template is made.
"""
HANDLED = HELD | {SIGCONT}
"""Signals that are handled while the machine exists. CONT is never blocked: it continues a stopped process even if it is
blocked.
"""


def heeded(numbers: Iterable[Signals]) -> list[Signals]:
    """The signals that the caller does not ignore. CONT resumes a stopped machine in any case."""
    return [number for number in numbers if number == SIGCONT or not inherited.ignored(number)]
