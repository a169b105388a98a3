"""The folder of usage records, and the index by which some are found without reading all."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from dayfly import disknames, files
from dayfly.errors import NotFound, Refused
from dayfly.job.usage import UsageRecord, alive, is_sound, lost, parse

_ID = r"[0-9a-f]{1,10}"
_DIGITS = r"[0-9]{1,18}"
_LIMIT = 1024 * 1024


class Records:
    """The folder of usage records: `YYYY-MM-DD/ID.json`, and each machine's console beside it.

    Empty files below `index` say where to look, so that nobody has to read every record: `index/running/DAY.ID` of jobs that have
    not ended, and `index/batch/SYSTEM-NUMBER/DAY.ID` of the jobs of batch systems.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, record: UsageRecord) -> Path:
        """Where a record is kept."""
        return self._folder / record.begun[:10] / f"{record.id}.json"

    def write(self, record: UsageRecord) -> None:
        """Write or replace a record. It is not forced to disk: a job's end must not wait for that."""
        files.write(self.path(record), record.render(), 0o644, durable=False)
        entry = f"{record.begun[:10]}.{record.id}"
        for place in _batch_places(record):
            self._note(place, entry)
        if record.state == "running":
            self._note("running", entry)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self._folder}/{disknames.RECORD_INDEX}/running/{entry}")  # noqa: PTH108 (on the way to every job's start)

    def _note(self, place: str, entry: str) -> None:
        path = f"{self._folder}/{disknames.RECORD_INDEX}/{place}/{entry}"
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 (on the way to every job's start)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))

    def open_console(self, record: UsageRecord) -> int:
        """A descriptor to write the machine's console log to."""
        path = self.path(record).with_suffix(disknames.CONSOLE_SUFFIX)
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def console(self, record: UsageRecord) -> Path:
        """Where the machine's console log is kept."""
        return self.path(record).with_suffix(disknames.CONSOLE_SUFFIX)

    def all(self, day: str = "") -> Iterator[UsageRecord]:
        """Every record of the days that begin so that can be read, oldest first; `lost` ones are shown as that."""
        for folder in sorted(path for path in self._folder.glob("????-??-??") if path.name.startswith(day[:10])):
            records = [self._read(path) for path in folder.glob("*.json")]
            yield from sorted((record for record in records if record), key=lambda record: record.begun)

    def running(self) -> Iterator[UsageRecord]:
        """Those of jobs that have not ended, or whose end nobody could write."""
        return self._noted("running")

    def of_batch_job(self, system: str, number: str) -> Iterator[UsageRecord]:
        """Those of a batch job, oldest first: of all tasks of an array, and of jobs whose numbers begin with the same digits."""
        return self._noted(_batch_place(system, number))

    def beginning(self, prefix: str) -> Iterator[UsageRecord]:
        """Those whose id begins so."""
        paths = sorted(self._folder.glob(f"????-??-??/{prefix}*.json")) if re.fullmatch(_ID, prefix) else []
        return (record for record in map(self._read, paths) if record)

    def _noted(self, place: str) -> Iterator[UsageRecord]:
        entries = sorted(path.name for path in (self._folder / disknames.RECORD_INDEX / place).glob("????-??-??.*"))
        paths = (self._folder / entry[:10] / f"{entry[11:]}.json" for entry in entries)
        return (record for record in map(self._read, paths) if record)

    def vouched(self, day: str = "") -> Iterator[UsageRecord]:
        """Those that are of the folder's owner: what they say of another user, that user never said."""
        yield from (record for record in self.all(day) if self.vouches_for(record))

    def vouches_for(self, record: UsageRecord) -> bool:
        """Whether a record is of the folder's owner."""
        try:
            return self._folder.stat().st_uid == record.uid
        except FileNotFoundError:
            return False

    @staticmethod
    def _read(path: Path) -> UsageRecord | None:
        try:
            record = parse(files.read(path, _LIMIT))
        except (Refused, OSError):
            return None
        if not is_sound(record) or path != path.parent.parent / record.begun[:10] / f"{record.id}.json":
            return None
        here = record.host == os.uname().nodename  # of other hosts, whose folder this may be too, nothing is known
        return lost(record) if record.state == "running" and here and not alive(record) else record


def _batch_places(record: UsageRecord) -> set[str]:
    """Where a record is noted for its batch job: by its number, and by its array's."""
    system = record.batch.get("system", "")
    numbers = {record.batch.get("job", ""), record.batch.get("array_job", "")} - {""}
    return {_batch_place(system, number) for number in numbers} if system else set()


def _batch_place(system: str, number: str) -> str:
    """The folder of a batch job's notes, by the digits that its number begins with: those of an array's tasks are in one."""
    digits = re.match(_DIGITS, number)
    return f"batch/{system if system.isalnum() else 'other'}-{digits[0] if digits else 'other'}"


def by_id(records: Iterable[UsageRecord], prefix: str) -> UsageRecord:
    """The record whose id begins so. Raises `NotFound`, also when there are several."""
    fitting = [record for record in records if record.id.startswith(prefix)] if prefix else []
    if len(fitting) != 1:
        what = "no usage record's id begins" if not fitting else f"{len(fitting)} usage records' ids begin"
        raise NotFound(f"{what} with {prefix!r}", "`dayfly usage list` shows them")
    return fitting[0]
