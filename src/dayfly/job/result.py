"""What comes of a job, for whoever ran it."""

from __future__ import annotations

from dayfly.job.usage import UsageRecord
from dayfly.values import dataclass


@dataclass(frozen=True)
class JobResult:
    """How a job ended. `status` is what to exit with: a code, or the negative number of a signal where that was asked for.

    `captured` is the digest of the image whose machine's files were written to the job's capture; empty where they were not.
    `job_status` is the job's own, whatever became of its files.
    """

    status: int
    record: UsageRecord
    job_status: int
    captured: str = ""
