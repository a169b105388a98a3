"""The signals that are handled for a job and its machine. On the hot path of every job."""

from __future__ import annotations

import os
import signal
from signal import SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGWINCH, Signals

from dayfly import inherited

TYPE_CHECKING = False  # typing's own costs an import at every start, and checkers know the name
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Iterable

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


class Listening:
    """Calls `act` in the event loop for each of these signals that comes, in their order, until it is stopped.

    As the loop's `add_signal_handler`, which imports `inspect`, a tenth of the CPU time of a start, to see that `act` is no
    coroutine function (docs/decisions/0180). As there, only the main thread may do this, and there is one at a time.
    """

    def __init__(self, loop: AbstractEventLoop, numbers: Iterable[Signals], act: Callable[[Signals], None]) -> None:
        self._loop = loop
        self._numbers = tuple(numbers)
        self._act = act
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        loop.add_reader(self._reader, self._read)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in self._numbers:
            signal.signal(number, _nothing)
            signal.siginterrupt(number, False)

    def _read(self) -> None:
        for number in os.read(self._reader, 4096):
            if number in self._numbers:
                self._act(Signals(number))

    def stop(self) -> None:
        """From now on, the signals do what they do by default."""
        for number in self._numbers:
            signal.signal(number, signal.default_int_handler if number == SIGINT else signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        self._loop.remove_reader(self._reader)
        os.close(self._reader)
        os.close(self._writer)


def _nothing(number: int, frame: object) -> None:
    """The signal's number is in the pipe already."""
