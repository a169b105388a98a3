"""What a job asks Torque for: nothing.

A job's comment is an operator's to set. `qrerun` is an operator's to call too; and as Torque does not tell a job how often it was
started, nothing would bound how often a job comes back to a host that cannot start machines.
"""

from __future__ import annotations

from collections.abc import Mapping

from dayfly.batch.jobshell.job import BatchJob


class Calls:
    """About one job."""

    requeue_status: int | None = None

    def __init__(self, job: BatchJob, variables: Mapping[bytes, bytes]) -> None:
        """As those of other batch systems are made."""

    def show(self, text: str) -> None:
        """Nothing of a running job is its user's to set."""

    def settle(self) -> None:
        """Nothing is under way."""

    def requeue(self) -> str:
        """Why the job cannot be put back."""
        return "Torque does not put jobs back for their users"
