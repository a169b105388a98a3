"""Calls to Torque for a job: none.

Only operators may set a job's comment or call `qrerun`. And since Torque does not tell a job how often it was started, the number
of restarts on a host that cannot start machines could not be limited.
"""

from __future__ import annotations

from collections.abc import Mapping

from dayfly.batch.jobshell.job import BatchJob


class Calls:
    """Calls for one job."""

    requeue_status: int | None = None

    def __init__(self, job: BatchJob, variables: Mapping[bytes, bytes]) -> None:
        """The same signature for all batch systems."""

    def show(self, text: str) -> None:
        """Does nothing: users cannot set attributes of a running job."""

    def flush(self) -> None:
        """Nothing was started."""

    def requeue(self) -> str:
        """Why the job cannot be requeued."""
        return "Torque does not allow users to requeue jobs"
