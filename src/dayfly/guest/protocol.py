"""The payloads of the frames as values: the START request, and the agent's reports. Pure.

Format: docs/reference/guest-protocol.md, version 3.
"""

from __future__ import annotations

import os
import re
import struct
from enum import IntEnum

from dayfly.errors import Refused
from dayfly.guest.frames import MAGIC, START_LIMIT, VERSION, ProtocolBroken
from dayfly.values import dataclass

_FIELD = struct.Struct("<HHI")
_WINDOW = struct.Struct("<HHHH")
_LIMIT = struct.Struct("<IIQQ")
_EXITED = struct.Struct("<BBHIQQQQQ")
_SIGNALS = struct.Struct("<QQ")
_MAC = r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}"
UNLIMITED = 2**64 - 1


class Stage(IntEnum):
    """How far the guest's start has progressed."""

    ROOT = 1
    READY = 2


class FailedStage(IntEnum):
    """What failed to start."""

    MODULES = 1
    ROOT = 2
    INIT = 3
    AGENT = 4
    START = 5


class StartProblem(IntEnum):
    """What was wrong with a START request."""

    OTHER = 0
    NOT_FOUND = 1
    NOT_EXECUTABLE = 2
    DIRECTORY = 3
    SHARE = 4
    IDENTITY = 5
    NETWORK = 6
    MALFORMED = 7
    RESOURCES = 8


class _Tag(IntEnum):
    ARGUMENT = 1
    ENVIRONMENT = 2
    DIRECTORY = 3
    IDENTITY = 4
    USER = 5
    GROUP = 6
    UMASK = 7
    LIMIT = 8
    TERMINAL = 9
    MERGED = 10
    SHARE = 11
    HOSTNAME = 12
    SEED = 13
    CLOCK = 14
    NETWORK = 15
    MACHINE_ID = 16
    MAC = 17
    SIGNALS = 18
    CLOSED = 19
    LINK = 20


@dataclass(frozen=True)
class WindowSize:
    """A terminal's size, in characters and in pixels."""

    rows: int
    columns: int
    width: int = 0
    height: int = 0

    def encode(self) -> bytes:
        """The payload of a WINDOW frame."""
        return _WINDOW.pack(self.rows, self.columns, self.width, self.height)


@dataclass(frozen=True)
class GuestIdentity:
    """The job's user in the guest: ids, and the passwd(5) and group(5) lines with their names."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    passwd: bytes = b""
    group_lines: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Limit:
    """A resource limit, by its Linux number; `UNLIMITED` is none."""

    resource: int
    soft: int
    hard: int


@dataclass(frozen=True)
class Mount:
    """A share of the machine, mounted in the guest."""

    tag: str
    target: bytes
    readonly: bool


@dataclass(frozen=True)
class Link:
    """A symbolic link of the host in the path of a shared folder: the guest gets the same link."""

    path: str
    target: str


@dataclass(frozen=True)
class Signals:
    """Which signals a process ignores and which it blocks: bit n - 1 of each number is signal n, as in proc(5)."""

    ignored: int = 0
    blocked: int = 0


@dataclass(frozen=True)
class StartRequest:
    """Everything that the agent needs to personalise the machine for a job and start it. Times are nanoseconds since the epoch.

    If the host name, the seed or the machine-id is empty, the machine keeps its own. `closed` are the standard streams (0, 1,
    2) that are closed for the job.
    """

    arguments: tuple[bytes, ...]
    environment: tuple[bytes, ...]
    directory: bytes
    identity: GuestIdentity
    clock: int
    hostname: str = ""
    seed: bytes = b""
    machine_id: str = ""
    umask: int = 0o22
    limits: tuple[Limit, ...] = ()
    terminal: WindowSize | None = None
    merged: bool = False
    mounts: tuple[Mount, ...] = ()
    network: str = ""
    mac: str = ""
    signals: Signals = Signals()
    closed: frozenset[int] = frozenset()
    links: tuple[Link, ...] = ()

    def encode(self) -> bytes:
        """The payload of the START frame. Raises `Refused` if it exceeds the protocol's limit, or `mac` is invalid."""
        fields = [(_Tag.ARGUMENT, argument) for argument in self.arguments]
        fields += [(_Tag.ENVIRONMENT, variable) for variable in self.environment]
        fields += [(_Tag.DIRECTORY, self.directory), (_Tag.IDENTITY, self._ids())]
        fields += [(_Tag.GROUP, line) for line in self.identity.group_lines]
        fields += [(_Tag.USER, self.identity.passwd)] if self.identity.passwd else []
        fields += [(_Tag.UMASK, struct.pack("<I", self.umask))]
        fields += [(_Tag.LIMIT, _LIMIT.pack(limit.resource, 0, limit.soft, limit.hard)) for limit in self.limits]
        fields += [(_Tag.TERMINAL, self.terminal.encode())] if self.terminal else []
        fields += [(_Tag.MERGED, b"")] if self.merged else []
        fields += [(_Tag.SHARE, _mount(mount)) for mount in self.mounts]
        fields += [(_Tag.HOSTNAME, self.hostname.encode())] if self.hostname else []
        fields += [(_Tag.SEED, self.seed)] if self.seed else []
        fields += [(_Tag.CLOCK, struct.pack("<Q", self.clock))]
        fields += [(_Tag.MACHINE_ID, self.machine_id.encode())] if self.machine_id else []
        fields += [(_Tag.NETWORK, self.network.encode())] if self.network else []
        fields += [(_Tag.MAC, _mac(self.mac))] if self.mac else []
        fields += [(_Tag.SIGNALS, _SIGNALS.pack(self.signals.ignored, self.signals.blocked))]
        fields += [(_Tag.CLOSED, bytes([sum(1 << number for number in self.closed)]))] if self.closed else []
        fields += [(_Tag.LINK, os.fsencode(link.path) + b"\0" + os.fsencode(link.target)) for link in self.links]
        payload = b"".join(_FIELD.pack(tag, 0, len(value)) + value for tag, value in fields)
        if len(payload) > START_LIMIT:
            raise Refused(
                f"the job's arguments and environment are {len(payload)} bytes, more than the limit of {START_LIMIT}",
                "pass large values in a file",
            )
        return payload

    def _ids(self) -> bytes:
        ids = (self.identity.uid, self.identity.gid, *self.identity.groups)
        return struct.pack(f"<{len(ids)}I", *ids)


def _mac(text: str) -> bytes:
    if not re.fullmatch(_MAC, text):
        raise Refused(f"{text} is not the address of a network interface", "write it like 52:54:00:12:34:56")
    address = bytes.fromhex(text.replace(":", ""))
    if address[0] & 1 or not any(address):
        raise Refused(f"{text} is not the address of one network interface", "choose one like 52:54:00:12:34:56")
    return address


def _mount(mount: Mount) -> bytes:
    return struct.pack("<I", 1 if mount.readonly else 0) + mount.tag.encode() + b"\0" + mount.target


@dataclass(frozen=True)
class Hello:
    """The agent's first report, when the initramfs has opened the port."""

    agent: str
    kernel: str


@dataclass(frozen=True)
class Failed:
    """Why the guest failed. `text` is from the guest: one line, printable."""

    stage: FailedStage
    problem: StartProblem
    errno: int
    text: str


@dataclass(frozen=True)
class Exited:
    """How the job ended and what it used: CPU in seconds, memory and streams in bytes."""

    code: int
    signal: int
    oom_kills: int
    cpu_user: float
    cpu_system: float
    peak_memory: int
    bytes_out: int
    bytes_in: int

    @property
    def status(self) -> int:
        """The status as in a shell: the code, or 128 + the signal."""
        return 128 + self.signal if self.signal else self.code


def parse_hello(payload: bytes) -> Hello:
    """Raises `ProtocolBroken` if the agent has another protocol version."""
    magic, version = payload[:4], int.from_bytes(payload[4:6], "little")
    if magic != MAGIC or version != VERSION:
        raise ProtocolBroken(f"the agent has version {version} of the guest protocol, but this Dayfly has version {VERSION}")
    agent, _, kernel = payload[8:].partition(b"\0")
    return Hello(printable(agent), printable(kernel))


def parse_stage(payload: bytes) -> Stage:
    """Raises `ProtocolBroken` for an unknown stage."""
    try:
        return Stage(payload[0])
    except ValueError as error:
        raise ProtocolBroken(f"the guest reported unknown stage {payload[0]}") from error


def parse_failed(payload: bytes) -> Failed:
    """Raises `ProtocolBroken` for an unknown stage or kind."""
    try:
        stage, problem = FailedStage(payload[0]), StartProblem(payload[1])
    except ValueError as error:
        raise ProtocolBroken("the guest reported an unknown failure") from error
    return Failed(stage, problem, int.from_bytes(payload[2:4], "little"), printable(payload[4:]))


def parse_exited(payload: bytes) -> Exited:
    """Raises `ProtocolBroken` for an impossible end."""
    kind, value, reserved, ooms, user, system, peak, out, into = _EXITED.unpack(payload)
    if kind > 1 or reserved or (kind == 1 and not 1 <= value <= 64):
        raise ProtocolBroken("the guest reported an impossible end of the job")
    code, signal = (value, 0) if kind == 0 else (0, value)
    return Exited(code, signal, ooms, user / 1e6, system / 1e6, peak, out, into)


def parse_grant(payload: bytes) -> int:
    """The number of additional bytes that may be sent."""
    return int.from_bytes(payload, "little")


def encode_grant(size: int) -> bytes:
    """The payload of a GRANT frame."""
    return size.to_bytes(4, "little")


def encode_clock(nanoseconds: int) -> bytes:
    """The payload of a CLOCK frame: nanoseconds since the epoch."""
    return struct.pack("<Q", nanoseconds)


def printable(text: bytes) -> str:
    """A text from the guest, safe to print on a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text.decode(errors="replace"))
