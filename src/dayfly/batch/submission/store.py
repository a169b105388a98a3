"""What was submitted, as it is remembered: one small file for each job, in the user's state folder.

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
"""A number as batch systems write it: `42`, `42[].head.example.org`. It becomes a part of a file's name, and has no `/`."""
_TASKS = 1 << 20


@dataclass(frozen=True)
class SubmittedJob:
    """A job that was submitted. `first` and `last` are the numbers of its tasks (0: it has none), `output` and `errors` paths."""

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
        """What the user calls it: `slurm:42`."""
        return f"{self.system}:{self.number}"

    @property
    def tasks(self) -> int:
        """How many tasks it has."""
        return self.last - self.first + 1

    def outputs(self) -> list[tuple[Path, Path]]:
        """The files with the output and the errors of each task."""
        tasks = [str(task) for task in range(self.first, self.last + 1)] if self.last else [""]
        return [(Path(self.output.replace("{task}", task)), Path(self.errors.replace("{task}", task))) for task in tasks]


def remember(job: JobSpec, system: str, number: str, outputs: tuple[str, str]) -> SubmittedJob:
    """Keep what is needed to find a job again. `outputs` are where its output and errors go, with `{task}` for a task's number.

    Raises `Refused` for a number that would be no part of an id.
    """
    if not _ID.fullmatch(f"{system}:{number}"):
        raise Refused(f"{number[:200]!r} is no number of a job", f"{system} has the job, but `dayfly job` cannot ask for it")
    output, errors = outputs
    folder, now = Path(job.directory), format_time(time.time())
    made = SubmittedJob(system, number, job.name, str(folder / output), str(folder / errors), now, job.first, job.last)
    files.write(_path(system, number), json.dumps(asdict(made)).encode(), 0o600)
    return made


def prepare() -> None:
    """Make the folder, before there is a job that could not be remembered. Raises `Refused` where that cannot be done."""
    try:
        _folder().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"{_folder()} cannot be made: {error.strerror}", "jobs are remembered there; see XDG_STATE_HOME") from error


def listed() -> list[SubmittedJob]:
    """All jobs, the oldest first; what is no job's file is left out."""
    found = []
    for path in _folder().glob("*.json"):
        with contextlib.suppress(DayflyError, OSError):
            found.append(_submitted(decode(files.read(path, _LIMIT), str(path))))
    return sorted(found, key=lambda job: (job.submitted, job.id))


def remove(job: SubmittedJob) -> None:
    """Forget a job."""
    _path(job.system, job.number).unlink(missing_ok=True)


def recall(identity: str) -> SubmittedJob:
    """The job of this id. Raises `NotFound`, or `Refused` for what is no id."""
    match = _ID.fullmatch(identity)
    if match is None:
        raise Refused(f"{identity[:100]!r} is no job's id", "as `dayfly submit` printed it, like slurm:42")
    path = _path(match[1], match[2])
    try:
        fields = decode(files.read(path, _LIMIT), str(path))
    except FileNotFoundError:
        raise NotFound(f"no job {identity} was submitted from here", "by `dayfly submit`, with this home directory") from None
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
