"""The states of a submitted job, the same for all batch systems. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from dayfly.errors import Refused


class NoAnswer(Refused):
    """The batch system's command failed: the job's state is unknown, but may be known later."""

    def __init__(self, command: str) -> None:
        super().__init__(f"{command} failed, so the job's state is not known", f"see the output of `{command}`")


class State(StrEnum):
    """A state; for an array, that of the task that is furthest from its end."""

    WAITING = "waiting"
    HELD = "held"
    RUNNING = "running"
    SUSPENDED = "suspended"
    FAULTY = "faulty"
    ENDED = "ended"


def furthest(states: list[State]) -> State:
    """The combined state of several tasks."""
    order = (State.FAULTY, State.RUNNING, State.SUSPENDED, State.WAITING, State.HELD)
    return next((state for state in order if state in states), State.ENDED)


def first_failure(statuses: Mapping[int, int | None], tasks: int) -> int | None:
    """The exit status of a job by those of its tasks: that of the first one that failed, or 0. None: not all of them are
    known.
    """
    known = [status for _, status in sorted(statuses.items()) if status is not None]
    return next((status for status in known if status), 0) if len(known) >= tasks else None


def no_status_query(number: str, tasks: int) -> list[str]:
    """No command: this batch system cannot be queried for exit statuses."""
    del number, tasks
    return []


def status_unknown(answer: str, number: str, tasks: int) -> int | None:
    """The exit status is not known."""
    del answer, number, tasks
    return None
