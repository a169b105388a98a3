"""What a node asks slurmctld about a job, as the job's user: to show a comment, to put it back into the queue."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping

from dayfly import process
from dayfly.batch.jobshell.job import BatchJob
from dayfly.batch.jobshell.note import Note
from dayfly.errors import DayflyError, ProgramFailed

_COMMENT = """\
before=$(squeue --noheader --jobs="$1" --format=%k) || exit
test "$before" = "(null)" && before=
before=${before%%"[dayfly "*}
before=${before% }
exec scontrol update JobId="$1" Comment="${before:+$before }[dayfly $2]"
"""


class Calls:
    """About one job. `variables` are the job's."""

    requeue_status: int | None = None

    def __init__(self, job: BatchJob, variables: Mapping[bytes, bytes]) -> None:  # noqa: ARG002 (as other batch systems' are made)
        said = job.identity
        array = f"{said['array_job']}_{said['array_task']}" if "array_task" in said and "array_job" in said else ""
        self._job = array or said.get("job", "")
        self._batch = said.get("step") == "batch"
        self._first = self._batch or said.get("task", "0") == "0"
        self._node = said.get("node", "")
        self._queue = job.queue
        # The plugin says where Slurm's commands and configuration are. The job's own variables could name others.
        self._environment = {"LC_ALL": "C.UTF-8"} | {
            name: os.environ[name] for name in ("PATH", "SLURM_CONF") if name in os.environ
        }
        self._note = Note(self._environment)

    def show(self, text: str) -> None:
        """Add to the job's comment what is in brackets; what the user's own says stays. It runs when the job leaves CPU time."""
        if not self._first or not self._job:
            return
        command = ["sh", "-c", _COMMENT, "sh", self._job, text]
        self._note.begin(command)

    def settle(self) -> None:
        """Wait until the note is there."""
        self._note.settle()

    def requeue(self) -> str:
        """Put the job back into the queue, and leave this node out the next time; or why that cannot be done.

        Slurm ends what the job has here: TERM at once, and KILL after its KillWait.
        """
        if not self._batch:
            return "Slurm puts only batch jobs back"
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # which is inherited by what is called here
        try:
            self._call("scontrol", "requeue", self._job)
        except ProgramFailed as error:
            return "Slurm says: " + (error.tail.splitlines() or [str(error.status)])[-1]
        except (DayflyError, OSError) as error:
            return str(error)
        with contextlib.suppress(DayflyError, OSError):  # then it may come back to this node: the number of times is bounded
            self._avoid()
        return ""

    def _avoid(self) -> None:
        """Leave this node out, where the job does not want it by name and others remain."""
        excluded, _, wanted = self._call("squeue", "--noheader", f"--jobs={self._job}", "--format=%x|%n").partition("|")
        leave_out = {*self._names(excluded), self._node}
        there = self._call("sinfo", "--noheader", "--Node", "--responding", f"--partition={self._queue}", "--format=%N").split()
        if not self._names(wanted) and set(there) - leave_out:
            self._call("scontrol", "update", f"JobId={self._job}", f"ExcNodeList={','.join(sorted(leave_out))}")

    def _names(self, nodes: str) -> list[str]:
        """Nodes as Slurm writes them, like `n[1-3]`, one by one."""
        return [] if nodes in ("", "(null)") else self._call("scontrol", "show", "hostnames", nodes).split()

    def _call(self, *command: str) -> str:
        return process.run(command, env=self._environment).output.decode(errors="replace").strip()
