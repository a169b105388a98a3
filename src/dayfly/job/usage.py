"""The usage record: what a job was, what it got and what it used. JSON, described by `usage.schema.json`.

A record is written when the job's machine starts (state `running`) and replaced when it has ended. One whose owner was killed
stays `running` although its process is gone; readers see it as `lost`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dayfly import disknames, files
from dayfly.errors import NotFound, Refused
from dayfly.values import asdict, dataclass, field, replace

_ID = re.compile(r"[0-9a-f]{1,10}")
_DIGITS = re.compile(r"[0-9]{1,18}")
SCHEMA_FILE = Path(__file__).with_name("usage.schema.json")
VERSION = 1
_LIMIT = 1024 * 1024
_COMMAND_LIMIT = 4096


@dataclass(frozen=True)
class ImageUsed:
    """Which image, by which name, from which library; how it came there, and who vouched for it (both may be several)."""

    reference: str
    digest: str
    library: str
    origin: str = ""
    endorser: str = ""


@dataclass(frozen=True)
class MachineUsed:
    """What the job got. Memory and scratch in bytes.

    `start` is `template` or `cold`: `template` names the one that was cloned, `cold_reason` says why there was none.
    """

    cpus: int
    memory: int
    scratch: int
    accelerator: str
    boot: str
    start: str
    network: str
    qemu: str = ""
    cpu_model: str = ""
    pid: int = 0
    template: str = ""
    cold_reason: str = ""


@dataclass(frozen=True)
class Used:
    """What the job used: CPU in seconds, memory and streams in bytes. None: not known."""

    cpu_user: float | None = None
    cpu_system: float | None = None
    cpu_host: float | None = None
    peak_memory: int | None = None
    bytes_in: int | None = None
    bytes_out: int | None = None


@dataclass(frozen=True)
class End:
    """How it ended: what the command exited with, in one word why, and a message for people."""

    status: int
    reason: str
    message: str = ""


@dataclass(frozen=True)
class UsageRecord:
    """One job's record. Times are ISO 8601 in UTC; `phases` are seconds since `begun`, by the name of what was reached."""

    id: str
    state: str
    begun: str
    host: str
    uid: int
    user: str
    command: tuple[str, ...]
    directory: str
    image: ImageUsed
    machine: MachineUsed
    name: str = ""
    batch: Mapping[str, str] = field(default_factory=dict)
    phases: Mapping[str, float] = field(default_factory=dict)
    used: Used = field(default_factory=Used)
    end: End | None = None
    version: int = VERSION

    def render(self) -> bytes:
        """The record as JSON."""
        return (json.dumps(asdict(self), indent=1) + "\n").encode()


def shortened(command: tuple[str, ...]) -> tuple[str, ...]:
    """A command as a record keeps it: printable and at most some thousand characters long."""
    kept: list[str] = []
    room = _COMMAND_LIMIT
    for word in command:
        if len(word) > room:
            return (*kept, word[:room].encode(errors="replace").decode() + "…")
        kept.append(word.encode(errors="replace").decode())
        room -= len(word)
    return tuple(kept)


def parse(text: bytes) -> UsageRecord:
    """Read a record. Raises `Refused` when it is not one."""
    try:
        fields: dict[str, Any] = json.loads(text)
        end = fields.pop("end")
        return UsageRecord(
            image=ImageUsed(**fields.pop("image")),
            machine=MachineUsed(**fields.pop("machine")),
            used=Used(**fields.pop("used")),
            end=End(**end) if end else None,
            command=tuple(fields.pop("command")),
            **fields,
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Refused(f"not a usage record: {error}") from error


def _is_sound(value: object) -> bool:
    """Whether every field of a record, and of its parts, is what its class says: others than Dayfly could have written it."""
    return all(_fits(getattr(value, name), kind) for name, kind in type(value).__annotations__.items())


def _fits(value: object, kind: str) -> bool:
    """Whether a value is of a kind, as the annotations here are written."""
    if isinstance(value, Mapping):
        return kind.startswith("Mapping[str, ") and all(_fits(one, kind[len("Mapping[str, ") : -1]) for one in value.values())
    if isinstance(value, tuple):
        return kind == "tuple[str, ...]" and all(isinstance(one, str) for one in value)
    name, kinds = "None" if value is None else type(value).__name__, kind.split(" | ")
    if isinstance(value, (int, float)):
        return abs(value) < 1 << 63 and (name in kinds or (name == "int" and "float" in kinds))  # which is not so of NaN
    return name in kinds and (value is None or isinstance(value, str) or _is_sound(value))


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
        paths = sorted(self._folder.glob(f"????-??-??/{prefix}*.json")) if _ID.fullmatch(prefix) else []
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
        if not _is_sound(record) or path != path.parent.parent / record.begun[:10] / f"{record.id}.json":
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
    digits = _DIGITS.match(number)
    return f"batch/{system if system.isalnum() else 'other'}-{digits[0] if digits else 'other'}"


def by_id(records: Iterable[UsageRecord], prefix: str) -> UsageRecord:
    """The record whose id begins so. Raises `NotFound`, also when there are several."""
    fitting = [record for record in records if record.id.startswith(prefix)] if prefix else []
    if len(fitting) != 1:
        what = "no usage record's id begins" if not fitting else f"{len(fitting)} usage records' ids begin"
        raise NotFound(f"{what} with {prefix!r}", "`dayfly usage list` shows them")
    return fitting[0]


def alive(record: UsageRecord) -> bool:
    """Whether the machine of a running record still runs: a process of that number, named after the record."""
    try:
        command = Path(f"/proc/{record.machine.pid}/cmdline").read_bytes()
    except OSError:
        return False
    return f"dayfly:{record.id}:".encode() in command


def lost(record: UsageRecord) -> UsageRecord:
    """A record whose owner was killed before it could write the end."""
    return replace(record, state="lost", end=End(137, "lost", "dayfly was killed before the job's end"))
