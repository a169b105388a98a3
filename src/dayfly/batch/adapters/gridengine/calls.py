"""What a job asks Grid Engine for: to show a note in its context, to start it again elsewhere."""

from __future__ import annotations

import os
from collections.abc import Mapping

from dayfly.batch.jobshell.job import BatchJob
from dayfly.batch.jobshell.note import Note

_AGAIN = 99
"""With this status a job is put back into the queue (sge_diagnostics(5), "Job exit codes")."""


class Calls:
    """About one job. `variables` are the job's."""

    requeue_status: int | None = _AGAIN

    def __init__(self, job: BatchJob, variables: Mapping[bytes, bytes]) -> None:
        said = job.identity
        task = said.get("array_task", "")
        self._job = f"{said.get('job', '')}{f'.{task}' if task else ''}"
        self._first = task in ("", variables.get(b"SGE_TASK_FIRST", b"").decode(errors="replace"))
        kept = {os.fsdecode(name): os.fsdecode(value) for name, value in variables.items() if name.startswith(b"SGE_")}
        places = (os.environ.get("PATH", ""), kept.get("SGE_BINARY_PATH", ""))
        self._environment = {**kept, "LC_ALL": "C.UTF-8", "PATH": ":".join(filter(None, places))}
        self._note = Note(self._environment)

    def show(self, text: str) -> None:
        """Put it into the job's context, where `qstat -j` shows it; of an array, what its first task has."""
        if not self._first or not self._job:
            return
        note = text.replace(",", ";").replace(" ", "_")  # the context is a list of NAME=VALUE with commas between them
        number = self._job.partition(".")[0]
        command = ["qalter", "-ac", f"dayfly={note}", number]
        self._note.begin(command)

    def settle(self) -> None:
        """Wait until the note is there."""
        self._note.settle()

    def requeue(self) -> str:
        """Nothing is to be asked: the job's exit status says it."""
        return ""
