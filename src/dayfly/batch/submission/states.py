"""Where a submitted job is, in words of our own. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from dayfly.errors import Refused


class NoAnswer(Refused):
    """The batch system's command failed: nobody knows where a job is, and it may be known later."""

    def __init__(self, command: str) -> None:
        super().__init__(f"{command} failed, so nobody knows where the job is", f"see what `{command}` says")


class State(StrEnum):
    """Of an array: of the task that is furthest from its end."""

    WAITING = "waiting"
    HELD = "held"
    RUNNING = "running"
    SUSPENDED = "suspended"
    FAULTY = "faulty"
    ENDED = "ended"


def furthest(states: list[State]) -> State:
    """The state of all together."""
    order = (State.FAULTY, State.RUNNING, State.SUSPENDED, State.WAITING, State.HELD)
    return next((state for state in order if state in states), State.ENDED)


def first_failure(statuses: Mapping[int, int | None], tasks: int) -> int | None:
    """The status of a job by those of its tasks: that of the first one that failed, or 0. None: not all of them are known."""
    known = [status for _, status in sorted(statuses.items()) if status is not None]
    return next((status for status in known if status), 0) if len(known) >= tasks else None


def nobody_tells(number: str, tasks: int) -> list[str]:
    """No command: this batch system is not asked how a job ended."""
    del number, tasks
    return []


def untold(answer: str, number: str, tasks: int) -> int | None:
    """How a job ended, where nobody is asked: that is not known."""
    del answer, number, tasks
    return None
