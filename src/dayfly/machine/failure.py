"""Failures of machines at the start or later, as values."""

from __future__ import annotations

from enum import StrEnum

from dayfly.errors import MachineFailed
from dayfly.values import dataclass


class Part(StrEnum):
    """The part of a machine that failed to start."""

    QEMU = "QEMU"
    KERNEL = "the kernel"
    ROOT = "the root filesystem"
    AGENT = "the agent"


class StartFailed(MachineFailed):
    """A machine failed to start: the part that failed, and the last lines of its console."""

    def __init__(self, part: Part, message: str, tail: str, hint: str = "") -> None:
        self.part = part
        self.tail = tail
        lines = "".join(f"\n  | {line}" for line in tail.splitlines()[-12:])
        super().__init__(message + lines, hint)


@dataclass(frozen=True)
class ExitInfo:
    """How QEMU ended: its status (negative: the signal that ended it) and the CPU seconds that it used."""

    status: int
    cpu: float


@dataclass(frozen=True)
class Loss:
    """Why a machine ended before its job: in one word, for usage records, and as a message."""

    reason: str
    message: str
    hint: str = ""
