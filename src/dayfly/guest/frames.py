"""The frames between host and agent: docs/reference/guest-protocol.md, version 3. Pure: bytes in, values out, and back.

The user controls the machine, so everything from it is hostile: every frame is checked, and no more than one frame is stored.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum

from dayfly.errors import Refused
from dayfly.values import dataclass

VERSION = 3
MAGIC = b"DFLY"
INPUT_LIMIT = 64 * 1024
OUTPUT_LIMIT = 256 * 1024
OUTPUT_WINDOW = 1024 * 1024
INPUT_WINDOW = 256 * 1024
_HEADER = struct.Struct("<BBHI")


class Stream(IntEnum):
    """The job's standard streams."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2


class FromGuest(IntEnum):
    """Types of the frames that the agent sends."""

    HELLO = 0x01
    STAGE = 0x02
    FAILED = 0x03
    STARTED = 0x04
    DATA = 0x05
    END = 0x06
    GRANT = 0x07
    CLOSED = 0x08
    EXITED = 0x09


class ToGuest(IntEnum):
    """Types of the frames that the host sends."""

    START = 0x41
    DATA = 0x42
    END = 0x43
    GRANT = 0x44
    CLOSED = 0x45
    SIGNAL = 0x46
    WINDOW = 0x47
    CLOCK = 0x48
    DONE = 0x49
    AGAIN = 0x4A


START_LIMIT = 4 * 1024 * 1024
_OUTPUTS = frozenset({Stream.STDOUT, Stream.STDERR})
_INPUT = frozenset({Stream.STDIN})
_NO_STREAM = frozenset({0})

# type: (valid streams, least and most bytes of payload)
_RULES = {
    FromGuest.HELLO: (_NO_STREAM, 8, 256),
    FromGuest.STAGE: (_NO_STREAM, 1, 1),
    FromGuest.FAILED: (_NO_STREAM, 4, 1024),
    FromGuest.STARTED: (_NO_STREAM, 4, 4),
    FromGuest.DATA: (_OUTPUTS, 1, OUTPUT_LIMIT),
    FromGuest.END: (_OUTPUTS, 0, 0),
    FromGuest.GRANT: (_INPUT, 4, 4),
    FromGuest.CLOSED: (_INPUT, 0, 0),
    FromGuest.EXITED: (_NO_STREAM, 48, 48),
}
_TYPES = {int(kind): kind for kind in FromGuest}


@dataclass(frozen=True)
class Frame:
    """One well-formed frame from the guest."""

    type: FromGuest
    stream: int
    payload: bytes


class ProtocolBroken(Refused):
    """The peer sent something that the protocol does not allow."""


def encode(kind: ToGuest, payload: bytes = b"", stream: int = 0) -> bytes:
    """A frame to the guest. The payload must be within the type's limit."""
    return _HEADER.pack(kind, stream, 0, len(payload)) + payload


class Decoder:
    """Splits data from the guest into frames. Holds at most one incomplete frame."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []  # of the incomplete frame; joined when it is complete, since they may be small
        self._have = 0
        self._need = _HEADER.size

    def feed(self, chunk: bytes) -> Iterator[Frame]:
        """The frames that this chunk completes. Raises `ProtocolBroken`; the decoder cannot be used after that."""
        self._chunks.append(chunk)
        self._have += len(chunk)
        if self._have < self._need:
            return
        content = b"".join(self._chunks)
        at, end = 0, len(content)
        self._need = _HEADER.size
        while end - at >= _HEADER.size:
            kind, stream, length = _check(*_HEADER.unpack_from(content, at))
            start = at + _HEADER.size
            if end - start < length:
                self._need = _HEADER.size + length
                break
            at = start + length
            yield Frame(kind, stream, content[start:at])
        self._chunks = [content[at:]]
        self._have = end - at

    @property
    def idle(self) -> bool:
        """Whether the last frame was complete."""
        return self._have == 0


def _check(number: int, stream: int, reserved: int, length: int) -> tuple[FromGuest, int, int]:
    kind = _TYPES.get(number)
    if kind is None:
        raise ProtocolBroken(f"the guest sent a frame of unknown type {number:#04x}")
    streams, least, most = _RULES[kind]
    if stream not in streams or reserved != 0 or not least <= length <= most:
        raise ProtocolBroken(f"the guest sent a malformed {kind.name} frame (stream {stream}, {length} bytes)")
    return kind, stream, length
