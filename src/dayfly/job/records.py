"""The folder of usage records, and an index for finding records without reading all of them."""

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
    """The folder of usage records: `YYYY-MM-DD/ID.json`, and each machine's console next to it.

    Empty files below `index` form it: `index/running/DAY.ID` for jobs that have not ended, and
    `index/batch/SYSTEM-NUMBER/DAY.ID` for the jobs of batch systems.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, record: UsageRecord) -> Path:
        """The file of a record."""
        return self._folder / record.begun[:10] / f"{record.id}{disknames.RECORD_SUFFIX}"

    def write(self, record: UsageRecord) -> None:
        """Write or replace a record. It is not synced to disk: a job's end must not wait for that."""
        files.write(self.path(record), record.render(), 0o644, durable=False)
        entry = f"{record.begun[:10]}.{record.id}"
        for place in _batch_places(record):
            self._note(place, entry)
        if record.state == "running":
            self._note(disknames.INDEX_OF_RUNNING, entry)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self._folder}/{disknames.RECORD_INDEX}/{disknames.INDEX_OF_RUNNING}/{entry}")  # noqa: PTH108 (hot path of every job)

    def _note(self, place: str, entry: str) -> None:
        path = f"{self._folder}/{disknames.RECORD_INDEX}/{place}/{entry}"
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 (hot path of every job)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))

    def open_console(self, record: UsageRecord) -> int:
        """A descriptor to write the machine's console log to."""
        path = self.path(record).with_suffix(disknames.CONSOLE_SUFFIX)
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def console(self, record: UsageRecord) -> Path:
        """The file of the machine's console log."""
        return self.path(record).with_suffix(disknames.CONSOLE_SUFFIX)

    def all(self, day: str = "") -> Iterator[UsageRecord]:
        """Every readable record of the days with this prefix, oldest first; lost ones have the state `lost`."""
        for folder in sorted(path for path in self._folder.glob("????-??-??") if path.name.startswith(day[:10])):
            records = [self._read(path) for path in folder.glob(f"*{disknames.RECORD_SUFFIX}")]
            yield from sorted((record for record in records if record), key=lambda record: record.begun)

    def running(self) -> Iterator[UsageRecord]:
        """Records of jobs that have not ended, or whose end could not be written."""
        return self._noted(disknames.INDEX_OF_RUNNING)

    def of_batch_job(self, system: str, number: str) -> Iterator[UsageRecord]:
        """Records of a batch job, oldest first: of all tasks of an array, and of jobs whose numbers begin with the same
        digits.
        """
        return self._noted(_batch_place(system, number))

    def beginning(self, prefix: str) -> Iterator[UsageRecord]:
        """Records whose id has this prefix."""
        found = self._folder.glob(f"????-??-??/{prefix}*{disknames.RECORD_SUFFIX}") if re.fullmatch(_ID, prefix) else []
        paths = sorted(found)
        return (record for record in map(self._read, paths) if record)

    def _noted(self, place: str) -> Iterator[UsageRecord]:
        entries = sorted(path.name for path in (self._folder / disknames.RECORD_INDEX / place).glob("????-??-??.*"))
        paths = (self._folder / entry[:10] / f"{entry[11:]}{disknames.RECORD_SUFFIX}" for entry in entries)
        return (record for record in map(self._read, paths) if record)

    def of_owner(self, day: str = "") -> Iterator[UsageRecord]:
        """Records of the folder's owner: the owner could forge records of other users."""
        yield from (record for record in self.all(day) if self.is_of_owner(record))

    def is_of_owner(self, record: UsageRecord) -> bool:
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
        if not is_sound(record) or path != path.parent.parent / record.begun[:10] / f"{record.id}{disknames.RECORD_SUFFIX}":
            return None
        here = record.host == os.uname().nodename  # the folder may be shared by other hosts, whose machines are not known here
        return lost(record) if record.state == "running" and here and not alive(record) else record


def _batch_places(record: UsageRecord) -> set[str]:
    """The index folders of a record for its batch job: by its number, and by its array's."""
    system = record.batch.get("system", "")
    numbers = {record.batch.get("job", ""), record.batch.get("array_job", "")} - {""}
    return {_batch_place(system, number) for number in numbers} if system else set()


def _batch_place(system: str, number: str) -> str:
    """The index folder of a batch job, by the leading digits of its number, so that all tasks of an array are in one."""
    digits = re.match(_DIGITS, number)
    return f"{disknames.INDEX_OF_BATCH_JOBS}/{system if system.isalnum() else 'other'}-{digits[0] if digits else 'other'}"


def by_id(records: Iterable[UsageRecord], prefix: str) -> UsageRecord:
    """The record whose id has this prefix. Raises `NotFound`, also if there are several."""
    fitting = [record for record in records if record.id.startswith(prefix)] if prefix else []
    if len(fitting) != 1:
        what = "no usage record's id begins" if not fitting else f"{len(fitting)} usage records' ids begin"
        raise NotFound(f"{what} with {prefix!r}", "`dayfly usage list` shows them")
    return fitting[0]
