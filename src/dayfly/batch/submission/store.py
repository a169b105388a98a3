"""The records of submitted jobs: one small file for each job, in the user's state folder.

XDG_STATE_HOME/dayfly/submitted/SYSTEM-NUMBER.json
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from pathlib import Path

from dayfly import disknames, files
from dayfly.batch.submission.description import JobSpec
from dayfly.errors import DayflyError, NotFound, Refused
from dayfly.image.fields import Fields, decode
from dayfly.settings import xdg
from dayfly.units import format_time
from dayfly.values import asdict, dataclass

_LIMIT = 64 * 1024
_ID = re.compile(r"([a-z]{1,16}):([A-Za-z0-9][A-Za-z0-9.\[\]_-]{0,127})")
"""A job's number in a batch system: `42`, `42[].head.example.org`. It is a part of a file's name, so it has no `/`."""
_TASKS = 1 << 20


@dataclass(frozen=True)
class SubmittedJob:
    """A job that was submitted. `first` and `last` are the numbers of its tasks (0: no array), `output` and `errors` are
    paths.
    """

    system: str
    number: str
    name: str
    output: str
    errors: str
    submitted: str
    first: int = 0
    last: int = 0

    @property
    def id(self) -> str:
        """Its id for users: `slurm:42`."""
        return f"{self.system}:{self.number}"

    @property
    def tasks(self) -> int:
        """The number of its tasks."""
        return self.last - self.first + 1

    def outputs(self) -> list[tuple[Path, Path]]:
        """The files with the output and the errors of each task."""
        tasks = [str(task) for task in range(self.first, self.last + 1)] if self.last else [""]
        return [(Path(self.output.replace("{task}", task)), Path(self.errors.replace("{task}", task))) for task in tasks]


def remember(job: JobSpec, system: str, number: str, outputs: tuple[str, str]) -> SubmittedJob:
    """Store what is needed to find a job again. `outputs` are the files of its output and errors, with `{task}` for a task's
    number.

    Raises `Refused` for a number that cannot be a part of an id.
    """
    if not _ID.fullmatch(f"{system}:{number}"):
        raise Refused(f"{number[:200]!r} is not a job's number", f"the job is in {system}, but not in `dayfly job`")
    output, errors = outputs
    folder, now = Path(job.directory), format_time(time.time())
    made = SubmittedJob(system, number, job.name, str(folder / output), str(folder / errors), now, job.first, job.last)
    files.write(_path(system, number), json.dumps(asdict(made)).encode(), 0o600)
    return made


def prepare() -> None:
    """Make the folder, before there is a job that could not be recorded. Raises `Refused` if that fails."""
    try:
        _folder().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"{_folder()} cannot be made: {error.strerror}", "jobs are recorded there; see XDG_STATE_HOME") from error


def listed() -> list[SubmittedJob]:
    """All jobs, the oldest first; other files are ignored."""
    found = []
    for path in _folder().glob("*.json"):
        with contextlib.suppress(DayflyError, OSError):
            found.append(_submitted(decode(files.read(path, _LIMIT), str(path))))
    return sorted(found, key=lambda job: (job.submitted, job.id))


def remove(job: SubmittedJob) -> None:
    """Remove a job's record."""
    _path(job.system, job.number).unlink(missing_ok=True)


def recall(identity: str) -> SubmittedJob:
    """The job of this id. Raises `NotFound`, or `Refused` for an invalid id."""
    match = _ID.fullmatch(identity)
    if match is None:
        raise Refused(f"{identity[:100]!r} is not a job's id", "use the id that `dayfly submit` printed, like slurm:42")
    path = _path(match[1], match[2])
    try:
        fields = decode(files.read(path, _LIMIT), str(path))
    except FileNotFoundError:
        raise NotFound(f"no job {identity} was submitted from here", "jobs are recorded in the home directory") from None
    return _submitted(fields)


def _submitted(fields: Fields) -> SubmittedJob:
    system, number, name, output, errors, submitted = (
        fields.text(word, limit=4096) for word in ("system", "number", "name", "output", "errors", "submitted")
    )
    first, last = (fields.number(word, 0, _TASKS) for word in ("first", "last"))
    return SubmittedJob(system, number, name, output, errors, submitted, first, last)


def _path(system: str, number: str) -> Path:
    return _folder() / f"{system}-{number}.json"


def _folder() -> Path:
    return xdg("XDG_STATE_HOME", ".local/state") / "dayfly" / disknames.SUBMITTED
