"""What a job asks PBS for: to start it again elsewhere."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping

from dayfly import process
from dayfly.batch.jobshell.job import BatchJob
from dayfly.errors import DayflyError, ProgramFailed


class Calls:
    """About one job. `variables` are the job's."""

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
        """A job's comment is an operator's to set, and there is no attribute of a running job that its user may."""

    def settle(self) -> None:
        """Nothing is under way."""

    def requeue(self) -> str:
        """Put the job back into the queue, or why that cannot be done: PBS lets its operators do so."""
        if not self._job:
            return "PBS does not say which job this is"
        command = ["env", f"PATH={self._environment['PATH']}", "qrerun", self._job]
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # by which the job may be ended as soon as it is back in the queue
        try:
            process.run(command, env=self._environment)
        except ProgramFailed as error:
            return "qrerun says: " + (error.tail.splitlines() or [str(error.status)])[-1]
        except (DayflyError, OSError) as error:
            return str(error)
        return ""
