"""Where a submitted job is, in words of our own."""

from __future__ import annotations

from enum import StrEnum


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
