"""The caller's terminal: raw while the job has it and is in its foreground, and restored otherwise."""

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
    """The terminal's size (24 lines of 80 columns if it is unknown)."""
    try:
        rows, columns = termios.tcgetwinsize(descriptor)
    except termios.error:  # it hung up
        rows, columns = 0, 0
    return WindowSize(rows or 24, columns or 80)


def in_foreground(descriptor: int) -> bool:
    """Whether this process may read a terminal and change its settings.

    In the background of its session's terminal it would be stopped by SIGTTIN or SIGTTOU (POSIX, "General Terminal
    Interface"). A terminal that is not the session's has no background.
    """
    try:
        return os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:
        return True


class CallersTerminal:
    """A terminal whose keys all go to the job: Ctrl-C too is handled by the guest's terminal."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._before: list[Any] | None = None

    def take(self) -> None:
        """Make it raw, unless other processes are in its foreground, or it is already raw."""
        if self._before is None and in_foreground(self._descriptor):
            with contextlib.suppress(termios.error), _never_stopped():
                self._before = termios.tcgetattr(self._descriptor)
                tty.setraw(self._descriptor, termios.TCSADRAIN)  # what was typed ahead goes to the job

    def give_back(self) -> None:
        """Restore it as before `take`, unless other processes are in its foreground now."""
        before, self._before = self._before, None
        if before is not None and in_foreground(self._descriptor):
            with contextlib.suppress(termios.error), _never_stopped():
                termios.tcsetattr(self._descriptor, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _never_stopped() -> Iterator[None]:
    """Block SIGTTOU while the terminal's settings are changed: its foreground may have changed since the check."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def same_file(one: int, other: int) -> bool:
    """Whether two descriptors lead to the same file, pipe or terminal."""
    return os.path.sameopenfile(one, other)
