"""Reports a job's machine to the batch system, and requeues the job if this host could not start a machine.

Imported when a job has started, or failed to start.
"""

from __future__ import annotations

import syslog
from typing import Protocol

from dayfly.batch.jobshell.job import BatchJob
from dayfly.job.usage import UsageRecord
from dayfly.machine.config import Accelerator
from dayfly.notices import Notify
from dayfly.provision import image_failures
from dayfly.settings import Settings

HOST_REASONS = frozenset({"host-failed", "qemu-failed"})
"""Reasons for a failed start that depend on the host: another host may work."""
IMAGE_REASONS = frozenset({"kernel-failed", "root-failed", "agent-failed"})
"""Reasons for a failed start that are the same on every host."""


class Calls(Protocol):
    """Calls to a batch system for a job that it runs here. No method raises."""

    def show(self, text: str) -> None:
        """Start to add a note that is shown with the job; the job does not wait for it."""

    def flush(self) -> None:
        """Wait, for some seconds at most, until the note is added."""

    def requeue(self) -> str:
        """Requeue the job, on another host if there is one; or return why that is not possible."""

    @property
    def requeue_status(self) -> int | None:
        """The exit status of a job that is requeued; None: it does not matter."""


class Reporter:
    """Reports one job's record. `status` is the exit status for the batch system (None: the job's own)."""

    def __init__(self, calls: Calls, job: BatchJob, settings: Settings, notify: Notify) -> None:
        self._calls = calls
        self._job = job
        self._settings = settings
        self._notify = notify
        self.status: int | None = None

    def report(self, record: UsageRecord) -> None:
        """The job has started, or has ended."""
        if record.state == "running":
            image_failures.forget(self._settings, record.image.digest)
            if self._settings.batch_comment:
                self._calls.show(summary(record))
            return
        self._calls.flush()
        if record.end is None:
            return
        if of_the_host(record):
            self._another_host(record.end.message)
        elif record.end.reason in IMAGE_REASONS:
            image_failures.note(self._settings, record.image.digest, record.end.message)

    def _another_host(self, message: str) -> None:
        """Requeue the job, a limited number of times, and tell the administrator of this host."""
        count, most = restarts(self._job), min(self._settings.batch_requeues, self._job.restarts_known)
        number, node = self._job.identity.get("job", "?"), self._job.identity.get("node", "this node")
        if count >= most:
            became = f"fails: it was already restarted ({count} of {most})" if most else "fails"
        else:
            why_not = self._calls.requeue()
            self.status = None if why_not else self._calls.requeue_status
            became = f"fails: {why_not}" if why_not else f"is requeued ({count + 1} of {most})"
        self._notify(f"{node} could not start a machine, and the job {became}")
        syslog.openlog("dayfly", 0, syslog.LOG_DAEMON)
        line = " ".join(message.split())[:1024]
        syslog.syslog(syslog.LOG_ERR, f"{self._job.system} job {number} had no machine on {node}, and {became}: {line}")


def of_the_host(record: UsageRecord) -> bool:
    """Whether the job failed to start because of this host.

    A guest whose kernel does not start under KVM counts as such: on a host where KVM is broken every guest hangs like this.
    """
    reason = record.end.reason if record.end else ""
    return reason in HOST_REASONS or (reason == "kernel-failed" and record.machine.accelerator == Accelerator.KVM)


def summary(record: UsageRecord) -> str:
    """A started job's machine in one line: image, digest, accelerator, warm or cold start, and the time until it was up."""
    machine, phases = record.machine, record.phases
    seconds = phases.get("started", 0.0) - phases.get("spawned", 0.0)
    return f"{record.image.reference or '-'} {record.image.digest} {machine.accelerator} {machine.start} {seconds:.2f}s"


def restarts(job: BatchJob) -> int:
    """How often the batch system has started this job again."""
    said = job.identity.get("restarts", "")
    return int(said) if said.isdecimal() and len(said) < 6 else 0
