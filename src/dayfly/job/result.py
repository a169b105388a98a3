"""The result of a job, for the caller."""

from __future__ import annotations

from dayfly.job.usage import UsageRecord
from dayfly.values import dataclass


@dataclass(frozen=True)
class JobResult:
    """How a job ended. `status` is the exit status: a code, or the negative number of a signal if that was requested.

    `captured` is the digest of the image whose machine's files were written to the job's capture; empty if they were not.
    `job_status` is the job's own, even if the capture failed.
    """

    status: int
    record: UsageRecord
    job_status: int
    captured: str = ""
