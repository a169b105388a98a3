"""Calls to slurmctld for a job, as the job's user: show a comment, requeue the job."""

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
    """Calls for one job. `variables` are the job's."""

    requeue_status: int | None = None

    def __init__(self, job: BatchJob, variables: Mapping[bytes, bytes]) -> None:  # noqa: ARG002 (the same for all systems)
        said = job.identity
        array = f"{said['array_job']}_{said['array_task']}" if "array_task" in said and "array_job" in said else ""
        self._job = array or said.get("job", "")
        self._batch = said.get("step") == "batch"
        self._first = self._batch or said.get("task", "0") == "0"
        self._node = said.get("node", "")
        self._queue = job.queue
        # The plugin gives the paths of Slurm's commands and configuration. The job's own variables could name others.
        self._environment = {"LC_ALL": "C.UTF-8"} | {
            name: os.environ[name] for name in ("PATH", "SLURM_CONF") if name in os.environ
        }
        self._note = Note(self._environment)

    def show(self, text: str) -> None:
        """Append the text in brackets to the job's comment; the user's own comment stays. It runs when the job leaves
        CPU time.
        """
        if not self._first or not self._job:
            return
        command = ["sh", "-c", _COMMENT, "sh", self._job, text]
        self._note.begin(command)

    def flush(self) -> None:
        """Wait until the note is there."""
        self._note.flush()

    def requeue(self) -> str:
        """Requeue the job, and exclude this node; or return why that is not possible.

        Slurm ends the job's processes here: TERM at once, and KILL after its KillWait.
        """
        if not self._batch:
            return "Slurm requeues only batch jobs"
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # inherited by the commands that are called here
        try:
            self._call("scontrol", "requeue", self._job)
        except ProgramFailed as error:
            return "Slurm says: " + (error.tail.splitlines() or [str(error.status)])[-1]
        except (DayflyError, OSError) as error:
            return str(error)
        with contextlib.suppress(DayflyError, OSError):  # then it may come back to this node: the number of restarts is limited
            self._avoid()
        return ""

    def _avoid(self) -> None:
        """Exclude this node, unless the job requests it by name or no other node remains."""
        excluded, _, wanted = self._call("squeue", "--noheader", f"--jobs={self._job}", "--format=%x|%n").partition("|")
        leave_out = {*self._names(excluded), self._node}
        there = self._call("sinfo", "--noheader", "--Node", "--responding", f"--partition={self._queue}", "--format=%N").split()
        if not self._names(wanted) and set(there) - leave_out:
            self._call("scontrol", "update", f"JobId={self._job}", f"ExcNodeList={','.join(sorted(leave_out))}")

    def _names(self, nodes: str) -> list[str]:
        """The single nodes of a Slurm host list, like `n[1-3]`."""
        return [] if nodes in ("", "(null)") else self._call("scontrol", "show", "hostnames", nodes).split()

    def _call(self, *command: str) -> str:
        return process.run(command, env=self._environment).output.decode(errors="replace").strip()
