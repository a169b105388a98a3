"""The signals that mean something to a job and its machine. On the way to every job's start."""

from __future__ import annotations

from signal import SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGWINCH, Signals

from dayfly import inherited

TYPE_CHECKING = False  # typing's own costs an import at every start, and checkers know the name
if TYPE_CHECKING:
    from collections.abc import Iterable

ENDING = frozenset((SIGTERM, SIGINT, SIGHUP, SIGQUIT))
"""They ask for the job's end."""
HELD = ENDING | {SIGUSR1, SIGUSR2, SIGTSTP, SIGWINCH}
"""From the spawn on, these wait until there is somebody who knows what they mean for the machine; those that do not ask for the
end of the job, also while a template is made."""
HANDLED = HELD | {SIGCONT}
"""They are listened to while the machine is there. CONT is never held: what is stopped goes on by it even where it is blocked."""


def heeded(numbers: Iterable[Signals]) -> list[Signals]:
    """Those of the signals that the caller does not ignore. A stopped machine goes on by CONT in any case."""
    return [number for number in numbers if number == SIGCONT or not inherited.ignored(number)]
