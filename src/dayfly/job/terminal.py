"""The terminal that the caller sits at: raw while the job has it and is in its foreground, and as it was otherwise."""

from __future__ import annotations

import contextlib
import os
import signal
import termios
import tty
from collections.abc import Iterator
from typing import Any

from dayfly.guest.protocol import WindowSize


def size(descriptor: int) -> WindowSize:
    """The terminal's size (24 lines of 80 where it does not know)."""
    try:
        rows, columns = termios.tcgetwinsize(descriptor)
    except termios.error:  # it hung up
        rows, columns = 0, 0
    return WindowSize(rows or 24, columns or 80)


def in_foreground(descriptor: int) -> bool:
    """Whether this process may read a terminal and change its settings.

    From the background of its session's terminal it would be stopped by SIGTTIN or SIGTTOU (POSIX, "General Terminal Interface").
    Nobody is in the background of a terminal that is not the session's.
    """
    try:
        return os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:
        return True


class CallersTerminal:
    """A terminal whose keys all go to the job: Ctrl-C too is the guest's terminal's business."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._before: list[Any] | None = None

    def take(self) -> None:
        """Make it raw, unless others are in its foreground, or it is raw already."""
        if self._before is None and in_foreground(self._descriptor):
            with contextlib.suppress(termios.error), _never_stopped():
                self._before = termios.tcgetattr(self._descriptor)
                tty.setraw(self._descriptor, termios.TCSADRAIN)  # what was typed ahead is the job's

    def give_back(self) -> None:
        """Set it as it was before `take`. To others, who are in its foreground now, nothing is done."""
        before, self._before = self._before, None
        if before is not None and in_foreground(self._descriptor):
            with contextlib.suppress(termios.error), _never_stopped():
                termios.tcsetattr(self._descriptor, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _never_stopped() -> Iterator[None]:
    """While the terminal's settings are changed: its foreground may have changed since it was looked at."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def same_file(one: int, other: int) -> bool:
    """Whether two descriptors lead to the same file, pipe or terminal."""
    return os.path.sameopenfile(one, other)
