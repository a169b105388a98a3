"""How a machine fails to come up, or ends before it should, as values."""

from __future__ import annotations

from enum import StrEnum

from dayfly.errors import MachineFailed
from dayfly.values import dataclass


class Part(StrEnum):
    """Which part of a machine did not come up."""

    QEMU = "QEMU"
    KERNEL = "the kernel"
    ROOT = "the root filesystem"
    AGENT = "the agent"


class StartFailed(MachineFailed):
    """A machine did not come up: which part of it, and the last lines of its console."""

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
    """Why a machine ended under its job: in one word, as usage records have it, and in words for the user."""

    reason: str
    message: str
    hint: str = ""
