"""The terminal that the caller sits at: raw while the job has it, and as it was afterwards."""

from __future__ import annotations

import contextlib
import os
import termios
import tty
from collections.abc import Iterator

from dayfly.machine.guest.protocol import WindowSize


def size(descriptor: int) -> WindowSize:
    """The terminal's size (24 lines of 80 where it does not know)."""
    try:
        rows, columns = termios.tcgetwinsize(descriptor)
    except termios.error:  # it hung up
        rows, columns = 0, 0
    return WindowSize(rows or 24, columns or 80)


@contextlib.contextmanager
def raw(descriptor: int) -> Iterator[None]:
    """Every key reaches the job: Ctrl-C too is the guest's terminal's business."""
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor, termios.TCSADRAIN)  # what was typed ahead is the job's
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def same_file(one: int, other: int) -> bool:
    """Whether two descriptors lead to the same file, pipe or terminal."""
    return os.path.sameopenfile(one, other)
