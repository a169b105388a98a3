"""The state that this process inherited and passes on to its job: environment, ignored signals, streams, working directory.

Python changes some of it at its start: it ignores SIGPIPE and SIGXFSZ, and sets LC_CTYPE in the C locale (PEP 538). The kernel
still has the original environment; the launcher (launcher/launcher.c) passes on the rest in variables. On the hot path of every
job.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping

_IGNORED = "DAYFLY_IGNORED_SIGNALS"
"""The variable in which the launcher passes on the mask of ignored signals."""
_HIDDEN = b"DAYFLY_CALLERS_"
"""The prefix that the launcher puts before the names of variables that Python would use."""
_SET_BY_PYTHON = b"LC_CTYPE"
"""The variable that Python sets in the C locale (PEP 538)."""
_BY_PYTHON = 1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)
_FOREIGN = ("/proc/", "/sys/", "/dev/")
_closed: list[int] = []


def environment() -> dict[bytes, bytes]:
    """The caller's environment, for its job and for the programs that are started for it."""
    return {name.removeprefix(_HIDDEN): value for name, value in environment_for_dayfly().items() if name != _IGNORED.encode()}


def environment_for_dayfly() -> dict[bytes, bytes]:
    """The caller's environment as the launcher passes it to Dayfly's own Python, for starting Dayfly again."""
    added = _SET_BY_PYTHON in os.environb and not _was_given(_SET_BY_PYTHON)
    return {name: value for name, value in os.environb.items() if not (added and name == _SET_BY_PYTHON)}


def _was_given(name: bytes) -> bool:
    """Whether this process was started with a variable: /proc/pid/environ does not show later changes (proc(5))."""
    try:
        with open("/proc/self/environ", "rb") as file:  # noqa: PTH123 (a hot path)
            return any(entry.startswith(name + b"=") for entry in file.read().split(b"\0"))
    except OSError:  # a process that may not read its own /proc files
        return True


def signals() -> tuple[int, int]:
    """The signals that the caller ignores and blocks, as two masks: bit n - 1 is signal n.

    Called before this process blocks or handles any.
    """
    masks = _masks("/proc/self/status")
    ignored, blocked = masks.get("SigIgn", 0) & ~_BY_PYTHON, masks.get("SigBlk", 0)
    return ignored | (_from_launcher() & _BY_PYTHON), blocked


def ignored(number: int) -> bool:
    """Whether the caller ignores a signal. Ignored signals stay ignored, for `nohup` and `trap ''`."""
    if 1 << (number - 1) & _BY_PYTHON:
        return bool(_from_launcher() & 1 << (number - 1))
    return signal.getsignal(number) == signal.SIG_IGN


def _from_launcher() -> int:
    text = os.environ.get(_IGNORED, "")
    try:
        return int(text, 16) if len(text) <= 16 else 0
    except ValueError:
        return 0


def _masks(path: str) -> Mapping[str, int]:
    try:
        with open(path) as file:  # noqa: PTH123 (a hot path)
            lines = [line.partition(":") for line in file.read().splitlines()]
    except OSError:
        return {}
    return {name: int(mask, 16) for name, _, mask in lines if name in ("SigIgn", "SigBlk")}


def open_standard_streams() -> None:
    """Open /dev/null for the standard descriptors that were closed at the start, before another file gets their numbers."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
            _closed.append(number)
    sys.stdout = sys.stdout or open(1, "w")  # noqa: SIM115 (open as long as we are)
    sys.stderr = sys.stderr or open(2, "w")  # noqa: SIM115


def closed_streams() -> frozenset[int]:
    """The standard descriptors that were closed at the start."""
    return frozenset(_closed)


def directory(shown: str) -> str:
    """The working directory as in the PWD of the caller's shell: with the links in its path.

    `shown` counts only if it is an absolute path without `.` and `..` that leads to the working directory (POSIX, `pwd -L`).
    Raises `FileNotFoundError` if the working directory does not exist any more.
    """
    here = os.getcwd()  # noqa: PTH109 (a hot path)
    if shown == here or not shown.startswith("/") or shown.startswith(_FOREIGN):
        return here
    if any(part in ("", ".", "..") for part in shown[1:].split("/")):
        return here
    try:
        same = os.path.samefile(shown, here)  # noqa: PTH121 (a hot path)
    except OSError:
        return here
    return shown if same else here
