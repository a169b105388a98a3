"""What a job asks HTCondor for: to show a note in its ClassAd, to start it again elsewhere."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from dayfly import files
from dayfly.batch.jobshell.job import BatchJob
from dayfly.batch.jobshell.note import Note
from dayfly.errors import DayflyError

_LIBEXEC = ("/usr/libexec/condor", "/usr/lib/condor/libexec")
"""Where condor_chirp is, which is for jobs alone and on nobody's PATH."""
_FAILED = 1
_CHIRP = (b"_CONDOR_SCRATCH_DIR", b"_CONDOR_CHIRP_CONFIG")
"""What condor_chirp needs. By other variables of this kind a user sets HTCondor's configuration, which names programs."""


class Calls:
    """About one job. `variables` are the job's."""

    requeue_status: int | None = _FAILED

    def __init__(self, job: BatchJob, variables: Mapping[bytes, bytes]) -> None:  # noqa: ARG002 (as other batch systems' are made)
        self._failure = os.fsdecode(variables.get(b"_CONDOR_WRAPPER_ERROR_FILE", b""))
        kept = {os.fsdecode(name): os.fsdecode(variables[name]) for name in _CHIRP if name in variables}
        places = (os.environ.get("PATH", ""), *_LIBEXEC)
        self._environment = {**kept, "LC_ALL": "C.UTF-8", "PATH": ":".join(filter(None, places))}
        self._note = Note(self._environment)

    def show(self, text: str) -> None:
        """Put it into the job's ClassAd as ChirpDayfly, which goes along when the starter reports next (condor_chirp(1))."""
        note = text.replace("\\", "").replace('"', "'")
        command = ["condor_chirp", "set_job_attr_delayed", "ChirpDayfly", f'"{note}"']
        self._note.begin(command)

    def settle(self) -> None:
        """Wait until the note is there."""
        self._note.settle()

    def requeue(self) -> str:
        """Say that the wrapper failed, not the job, so that HTCondor starts it again; or why that cannot be done."""
        if not self._failure.startswith("/"):
            return "HTCondor does not say where its wrapper reports failures"
        try:
            files.write(Path(self._failure), b"dayfly: this host could not start a machine for the job\n", durable=False)
        except (DayflyError, OSError) as error:
            return str(error)
        return ""
