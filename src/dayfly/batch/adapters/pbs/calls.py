"""Calls to PBS for a job: requeue it."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping

from dayfly import process
from dayfly.batch.jobshell.job import BatchJob
from dayfly.errors import DayflyError, ProgramFailed


class Calls:
    """Calls for one job. `variables` are the job's."""

    requeue_status: int | None = None

    def __init__(self, job: BatchJob, variables: Mapping[bytes, bytes]) -> None:
        self._job = job.identity.get("job", "")
        # Neither PATH nor PBS_CONF_FILE of the job: both name programs that would run on the host.
        kept = {"PBS_SERVER": os.fsdecode(variables[b"PBS_SERVER"])} if b"PBS_SERVER" in variables else {}
        self._environment = {
            "LC_ALL": "C.UTF-8",
            "PATH": ":".join(filter(None, (os.environ.get("PATH", ""), "/opt/pbs/bin"))),
            **kept,
        }

    def show(self, text: str) -> None:
        """Does nothing: only operators may set a job's comment, and users cannot set any attribute of a running job."""

    def flush(self) -> None:
        """Nothing was started."""

    def requeue(self) -> str:
        """Requeue the job, or return why that is not possible: PBS allows it to operators only."""
        if not self._job:
            return "PBS did not set the job's id"
        command = ["env", f"PATH={self._environment['PATH']}", "qrerun", self._job]
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # PBS may end the job with it as soon as it is requeued
        try:
            process.run(command, env=self._environment)
        except ProgramFailed as error:
            return "qrerun says: " + (error.tail.splitlines() or [str(error.status)])[-1]
        except (DayflyError, OSError) as error:
            return str(error)
        return ""
