"""Calls to HTCondor for a job: show a note in its ClassAd, requeue it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from dayfly import files
from dayfly.batch.jobshell.job import BatchJob
from dayfly.batch.jobshell.note import Note
from dayfly.errors import DayflyError

_LIBEXEC = ("/usr/libexec/condor", "/usr/lib/condor/libexec")
"""The folder of condor_chirp, which is only for jobs and not on the PATH."""
_FAILED = 1
_CHIRP = (b"_CONDOR_SCRATCH_DIR", b"_CONDOR_CHIRP_CONFIG")
"""The variables that condor_chirp needs. Other _CONDOR_ variables set HTCondor's configuration, which names programs, so they are
not passed on.
"""


class Calls:
    """Calls for one job. `variables` are the job's."""

    requeue_status: int | None = _FAILED

    def __init__(self, job: BatchJob, variables: Mapping[bytes, bytes]) -> None:  # noqa: ARG002 (the same for all systems)
        self._failure = os.fsdecode(variables.get(b"_CONDOR_WRAPPER_ERROR_FILE", b""))
        kept = {os.fsdecode(name): os.fsdecode(variables[name]) for name in _CHIRP if name in variables}
        places = (os.environ.get("PATH", ""), *_LIBEXEC)
        self._environment = {**kept, "LC_ALL": "C.UTF-8", "PATH": ":".join(filter(None, places))}
        self._note = Note(self._environment)

    def show(self, text: str) -> None:
        """Put the text in the job's ClassAd as ChirpDayfly; the starter sends it with its next update (condor_chirp(1))."""
        note = text.replace("\\", "").replace('"', "'")
        command = ["condor_chirp", "set_job_attr_delayed", "ChirpDayfly", f'"{note}"']
        self._note.begin(command)

    def flush(self) -> None:
        """Wait until the note is there."""
        self._note.flush()

    def requeue(self) -> str:
        """Report that the wrapper failed, not the job, so that HTCondor starts it again. Returns why that is not possible."""
        if not self._failure.startswith("/"):
            return "HTCondor does not name the file for the wrapper's failures"
        try:
            files.write(Path(self._failure), b"dayfly: this host could not start a machine for the job\n", durable=False)
        except (DayflyError, OSError) as error:
            return str(error)
        return ""
