"""What a job asks Torque for: the same, by the same commands, as PBS."""

from __future__ import annotations

from dayfly.batch.pbs.calls import Calls

__all__ = ["Calls"]
