"""The usage record: the job, its machine and what it used. JSON, described by `usage.schema.json`.

A record is written when the job's machine starts (state `running`) and replaced when it has ended. If dayfly was killed, the
record stays `running` although the process is gone; readers see it as `lost`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dayfly.errors import Refused
from dayfly.values import asdict, dataclass, field, replace

SCHEMA_FILE = Path(__file__).with_name("usage.schema.json")
VERSION = 1
_COMMAND_LIMIT = 4096


@dataclass(frozen=True)
class ImageUsed:
    """The image, its name and library; its origins and its endorsers (both may be several)."""

    reference: str
    digest: str
    library: str
    origin: str = ""
    endorser: str = ""


@dataclass(frozen=True)
class MachineUsed:
    """The job's machine. Memory and scratch in bytes.

    `start` is `template` or `cold`: `template` is the name of the cloned template, `cold_reason` is why there was none.
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
    """How the job ended: the exit status, the reason in one word, and a message."""

    status: int
    reason: str
    message: str = ""


@dataclass(frozen=True)
class UsageRecord:
    """One job's record. Times are ISO 8601 in UTC; `phases` are seconds since `begun`, by the name of the phase."""

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
    """A command for a record: printable and limited to a few thousand characters."""
    kept: list[str] = []
    room = _COMMAND_LIMIT
    for word in command:
        if len(word) > room:
            return (*kept, word[:room].encode(errors="replace").decode() + "…")
        kept.append(word.encode(errors="replace").decode())
        room -= len(word)
    return tuple(kept)


def parse(text: bytes) -> UsageRecord:
    """Read a record. Raises `Refused` if it is not one."""
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


def is_sound(value: object) -> bool:
    """Whether every field of a record, and of its parts, has the type that its class says: other programs may have written it."""
    return all(_fits(getattr(value, name), kind) for name, kind in type(value).__annotations__.items())


def _fits(value: object, kind: str) -> bool:
    """Whether a value has a type, as written in the annotations here."""
    if isinstance(value, Mapping):
        return kind.startswith("Mapping[str, ") and all(_fits(one, kind[len("Mapping[str, ") : -1]) for one in value.values())
    if isinstance(value, tuple):
        return kind == "tuple[str, ...]" and all(isinstance(one, str) for one in value)
    name, kinds = "None" if value is None else type(value).__name__, kind.split(" | ")
    if isinstance(value, (int, float)):
        return abs(value) < 1 << 63 and (name in kinds or (name == "int" and "float" in kinds))  # false for NaN
    return name in kinds and (value is None or isinstance(value, str) or is_sound(value))


def alive(record: UsageRecord) -> bool:
    """Whether the machine of a running record still runs: a process with that pid, named after the record."""
    try:
        command = Path(f"/proc/{record.machine.pid}/cmdline").read_bytes()
    except OSError:
        return False
    return f"dayfly:{record.id}:".encode() in command


def lost(record: UsageRecord) -> UsageRecord:
    """The record of a job whose dayfly was killed before it could write the end."""
    return replace(record, state="lost", end=End(137, "lost", "dayfly was killed before the job's end"))
