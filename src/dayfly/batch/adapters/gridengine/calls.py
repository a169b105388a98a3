"""Calls to Grid Engine for a job: show a note in its context, requeue it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from dayfly.batch.jobshell.job import BatchJob
from dayfly.batch.jobshell.note import Note

_AGAIN = 99
"""The exit status with which a job is requeued (sge_diagnostics(5), "Job exit codes")."""


class Calls:
    """Calls for one job. `variables` are the job's."""

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
        """Put the text in the job's context, where `qstat -j` shows it; for an array, that of its first task."""
        if not self._first or not self._job:
            return
        note = text.replace(",", ";").replace(" ", "_")  # the context is a comma-separated list of NAME=VALUE
        number = self._job.partition(".")[0]
        command = ["qalter", "-ac", f"dayfly={note}", number]
        self._note.begin(command)

    def flush(self) -> None:
        """Wait until the note is there."""
        self._note.flush()

    def requeue(self) -> str:
        """No call is needed: the job's exit status requeues it."""
        return ""
