"""Strict reading of tar archives: each byte up to the end of an archive belongs to a file, or the archive is refused.

Python's `tarfile` silently ends an archive at a damaged header. This reads what Go's archive/tar reads, and so umoci, podman and
docker; an archive that GNU tar reads differently is refused.

Formats: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Interchange Format"; GNU tar's manual, "Basic Tar Format" and
"Storing Sparse Files".
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import BinaryIO

from dayfly.errors import Refused

BLOCK = 512
HEADER_LIMIT = 1024**2
"""The most bytes of an extended header, or of a map of holes: the limit of Go's reader."""
_HEADERS_LIMIT = 512 * 1024**2
"""The most bytes of all of them together."""
_PARTS_LIMIT, _PARTS_MOST = 65536, 8 * 1024**2
"""The most parts between holes of one file, and of all files together."""
_ZEROS = bytes(BLOCK)
_DECIMAL = re.compile(rb"[+-]?[0-9]{1,19}")
_MOMENT = re.compile(rb"([+-]?[0-9]{1,19})(?:\.([0-9]*))?")
_OCTAL = re.compile(rb"[0-7]{1,22}")
_LARGEST = 2**63 - 1
_XATTR, _SPARSE = b"SCHILY.xattr.", b"GNU.sparse."
_MEANT = (b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime")
"""The records of an extended header that are used."""


class Kind(StrEnum):
    """The type of a member."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "symbolic link"
    HARD_LINK = "hard link"
    DEVICE = "device"
    FIFO = "fifo"


_KINDS = {
    b"0": Kind.FILE,
    b"\0": Kind.FILE,
    b"7": Kind.FILE,
    b"S": Kind.FILE,
    b"1": Kind.HARD_LINK,
    b"2": Kind.LINK,
    b"3": Kind.DEVICE,
    b"4": Kind.DEVICE,
    b"5": Kind.FOLDER,
    b"6": Kind.FIFO,
}

Part = tuple[int, int, int]
"""A range of a file with data: offset in the file, offset in the archive, length."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive. `size` is in bytes, including holes; `mtime` in seconds since the epoch, rounded down.

    Bytes of names that are not UTF-8 are surrogates (`os.fsdecode`). Nothing is validated: a name may lead anywhere.
    """

    name: str
    kind: Kind
    mode: int = 0
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    size: int = 0
    target: str = ""
    extended: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()

    @property
    def whole(self) -> Part | None:
        """The whole content of a file without holes; None for a file with holes, and for other types."""
        if self.kind is not Kind.FILE:
            return None
        if self.size == 0:
            return (0, 0, 0)
        return self.parts[0] if len(self.parts) == 1 and self.parts[0][2] == self.size else None


def members(file: BinaryIO, limit: int, *, marked: bool = False) -> Iterator[Member]:
    """Each member of an archive, at most `limit`, from the open file's current offset. Data after the end marker is ignored.

    An archive ends with two blocks of zeros, or with the file: umoci writes no marker. With `marked`, it must have one.
    Raises `Refused` if it is damaged, truncated, or ambiguous between tools.
    """
    reader = _Reader(file)
    count = 0
    while (member := reader.member()) is not None:
        count += 1
        if count > limit:
            raise Refused(f"it has more than {limit} entries")
        yield member
    if marked and not reader.marked:
        raise Refused("it is truncated: the end marker is missing")


def check(file: BinaryIO, limit: int) -> None:
    """Raise `Refused` unless the whole archive can be read, up to its end marker."""
    for _ in members(file, limit, marked=True):
        pass


@dataclass(slots=True)
class _Header:
    """A parsed header block."""

    block: bytes
    type: bytes
    name: bytes
    target: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int

    @property
    def is_gnu(self) -> bool:
        return self.block[257:265] == b"ustar  \0"


@dataclass(slots=True)
class _Extension:
    """The content of extended headers for the next member."""

    records: dict[bytes, bytes] | None = None
    name: bytes = b""
    target: bytes = b""

    @property
    def is_there(self) -> bool:
        return self.records is not None or bool(self.name or self.target)


class _Reader:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._end = os.fstat(file.fileno()).st_size
        self._at = file.tell()
        self._headers = self._parts = 0
        self.marked = False

    def member(self) -> Member | None:
        """The next member; None at the end."""
        extension = _Extension()
        while (header := self._header(extension)) is not None:
            if header.type == b"x":
                if extension.records is not None:
                    raise Refused("it has two extended headers for one file")
                extension.records = _records(self._content(header.size))
            elif header.type == b"g":
                self._skip_global(header, extension)
            elif header.type == b"L":
                extension.name = _text(self._content(header.size))
            elif header.type == b"K":
                extension.target = _text(self._content(header.size))
            else:
                return self._finished(header, extension)
        return None

    def _read(self, size: int, what: str) -> bytes:
        self._file.seek(self._at)
        content = self._file.read(size)
        if len(content) < size:
            raise Refused(f"it is truncated: it ends in the middle of {what}")
        self._at += size
        return content

    def _header(self, extension: _Extension) -> _Header | None:
        """The next header; None at the end, which may not follow an extended header."""
        if self._at < self._end:
            block = self._read(BLOCK, "a header")
            if block != _ZEROS:
                return _header(block)
            if self._at < self._end:
                if self._read(BLOCK, "its end marker") != _ZEROS:
                    raise Refused("it is damaged: a header is a block of zeros")
                self.marked = True
        if extension.is_there:
            raise Refused("it is truncated: it ends after an extended header")
        return None

    def _content(self, size: int) -> bytes:
        """The content of an extended header."""
        self._headers += size
        if not 0 <= size <= HEADER_LIMIT:
            raise Refused(f"it has a header of more than {HEADER_LIMIT} bytes")
        if self._headers > _HEADERS_LIMIT:
            raise Refused(f"it has headers of more than {_HEADERS_LIMIT} bytes in total")
        content = self._read(size, "a header")
        self._at += -size % BLOCK
        return content

    def _skip_global(self, header: _Header, extension: _Extension) -> None:
        """Read a global header, which applies to all later files; Go's reader ignores it, others do not. `git archive` writes a
        comment in one.
        """
        records = _records(self._content(header.size))
        if extension.is_there or any(key in _MEANT or key.startswith((_XATTR, _SPARSE)) for key in records):
            raise Refused("it has a global header that some tools ignore")

    def _finished(self, header: _Header, extension: _Extension) -> Member:
        records = extension.records or {}
        name = extension.name or records.get(b"path") or header.name
        target = extension.target or records.get(b"linkpath") or header.target
        header.size = _of(records, b"size", header.size)
        kind = _KINDS.get(header.type)
        if kind is None:
            raise Refused(f"{_shown(name)} has an unknown type: {header.type!r}")
        if kind is Kind.FILE and name.endswith(b"/"):
            if header.type != b"\0":
                raise Refused(f"{_shown(name)} is a file with the name of a folder")
            kind = Kind.FOLDER
        sparse = header.type == b"S" or any(key.startswith(_SPARSE) for key in records)
        name = (records.get(_SPARSE + b"name") or name) if sparse else name
        size, parts = self._body(header, records, name, kind, sparse)
        return Member(
            os.fsdecode(name),
            kind,
            header.mode,
            _of(records, b"uid", header.uid),
            _of(records, b"gid", header.gid),
            _moment(records[b"mtime"]) if records.get(b"mtime") else header.mtime,
            size,
            os.fsdecode(target),
            {os.fsdecode(key[len(_XATTR) :]): os.fsdecode(value) for key, value in records.items() if _is_xattr(key, value)},
            parts,
        )

    def _body(
        self, header: _Header, records: Mapping[bytes, bytes], name: bytes, kind: Kind, sparse: bool
    ) -> tuple[int, tuple[Part, ...]]:
        """The size of a member and the place of its bytes, which are skipped."""
        if kind is not Kind.FILE:
            if sparse:
                raise Refused(f"{_shown(name)} is a {kind} with holes")
            return 0, ()
        if header.size < 0:
            raise Refused(f"{_shown(name)} has a negative size")
        size, stored, parts = header.size, header.size, [(0, header.size)]
        if sparse:
            before = self._at
            size, parts = self._map_in_header(header) if header.type == b"S" else self._map(records, header.size)
            stored -= 0 if header.type == b"S" else self._at - before
            _check_map(parts, size, stored, name)
            self._parts += len(parts)
            if len(parts) > _PARTS_LIMIT or self._parts > _PARTS_MOST:
                raise Refused(f"{_shown(name)} has too many parts")
        found, place = [], self._at
        for start, length in parts:
            if length:
                found.append((start, place, length))
            place += length
        if place > self._end:
            raise Refused(f"it is truncated: it ends in the middle of {_shown(name)}")
        self._at += stored + -stored % BLOCK
        return size, tuple(found)

    def _map_in_header(self, header: _Header) -> tuple[int, list[tuple[int, int]]]:
        """GNU tar's old format: the map begins in the header and continues in blocks after it, which are not included in the
        size.
        """
        if not header.is_gnu:
            raise Refused(f"{_shown(header.name)} has a map of holes in an unknown format")
        size = _number(header.block[483:495])
        parts = _pairs(header.block[386:482])
        more = header.block[482]
        while more:
            self._headers += BLOCK
            block = self._read(BLOCK, "a map of holes")
            parts += _pairs(block[:504])
            more = block[504]
            if len(parts) > _PARTS_LIMIT or self._headers > _HEADERS_LIMIT:
                raise Refused(f"{_shown(header.name)} has too many parts")
        return size, parts

    def _map(self, records: Mapping[bytes, bytes], stored: int) -> tuple[int, list[tuple[int, int]]]:
        """The pax formats: 1.0 has the map before the content, 0.0 and 0.1 in the header."""
        size = records.get(_SPARSE + b"size") or records.get(_SPARSE + b"realsize")
        version = records.get(_SPARSE + b"major", b""), records.get(_SPARSE + b"minor", b"")
        if not size or version not in ((b"", b""), (b"0", b"0"), (b"0", b"1"), (b"1", b"0")):
            raise Refused("it has a file with holes in an unknown format")
        if version == (b"1", b"0"):
            numbers = self._table(stored)
        else:
            text = records.get(_SPARSE + b"map", b"")
            numbers = [_decimal(one) for one in text.split(b",")] if text else []
            if len(numbers) != 2 * _decimal(records.get(_SPARSE + b"numblocks", b"")):
                raise Refused("it has a damaged map of holes")
        return _decimal(size), list(zip(numbers[::2], numbers[1::2], strict=True))

    def _table(self, stored: int) -> list[int]:
        """The numbers in the blocks before the content; the first one is their count."""
        text, lines, wanted = bytearray(), 0, 1
        while lines < wanted:
            if len(text) + BLOCK > min(HEADER_LIMIT, stored):
                raise Refused("it has a damaged map of holes")
            block = self._read(BLOCK, "a map of holes")
            text += block
            lines += block.count(b"\n")
            if wanted == 1 and lines:
                count = _decimal(bytes(text.partition(b"\n")[0]))
                if not 0 <= count <= _PARTS_LIMIT:
                    raise Refused("it has a file with too many parts")
                wanted += 2 * count
        self._headers += len(text)
        return [_decimal(line) for line in bytes(text).split(b"\n")[1:wanted]]


def _check_map(parts: list[tuple[int, int]], size: int, stored: int, name: bytes) -> None:
    """GNU tar begins each part at a block of the archive, Go's reader does not: so all parts but the last must be whole
    blocks.
    """
    end = 0
    for start, length in parts:
        if start < end or length < 0 or start + length > size:
            raise Refused(f"{_shown(name)} has an invalid map of holes")
        end = start + length
    lengths = [length for _, length in parts if length]
    if any(length % BLOCK for length in lengths[:-1]):
        raise Refused(f"{_shown(name)} has parts between holes that are not whole blocks: tools read it differently")
    if sum(lengths) != stored:
        raise Refused(f"{_shown(name)} has a map of holes that does not match its stored size")


def _header(block: bytes) -> _Header:
    total, said = sum(block) - sum(block[148:156]) + 8 * 32, _octal(block[148:156])
    if said != total and said != total - 256 * sum(byte >= 128 for byte in block[:148] + block[156:]):  # of signed bytes
        raise Refused("it is damaged: a header has a wrong checksum")
    fields = ((100, 108), (108, 116), (116, 124), (124, 136), (136, 148))
    mode, uid, gid, size, mtime = (_number(block[start:end]) for start, end in fields)
    name, prefix = _text(block[:100]), b""
    if block[257:263] == b"ustar\0":
        prefix = _text(block[345:476] if block[508:512] == b"tar\0" else block[345:500])
    elif block[257:265] == b"ustar  \0":
        prefix = _prefix_of_gnu(block)
    return _Header(
        block, block[156:157], prefix + b"/" + name if prefix else name, _text(block[157:257]), mode, uid, gid, size, mtime
    )


def _prefix_of_gnu(block: bytes) -> bytes:
    """GNU tar has two times in the place of a prefix. Go before 1.8 wrote a prefix there anyway."""
    try:
        for time in (block[345:357], block[357:369]):
            if time[0]:
                _number(time)
    except Refused:
        prefix = _text(block[345:500])
        return prefix if prefix.isascii() else b""
    return b""


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _octal(field: bytes) -> int:
    digits = _text(field.strip(b" \0"))
    if digits and not _OCTAL.fullmatch(digits):
        raise Refused("it is damaged: a header has an invalid number")
    return int(digits or b"0", 8)


@functools.lru_cache(4096)  # most files of an archive have the same owner, mode and time
def _number(field: bytes) -> int:
    """Octal digits; or big-endian bytes after a flag bit (GNU tar's "base-256")."""
    value = _octal(field) if not field[0] & 0x80 else int.from_bytes(field, "big") & ~(1 << 8 * len(field) - 1)
    if field[0] & 0xC0 == 0xC0:
        value -= 1 << 8 * len(field) - 1
    if not -_LARGEST <= value <= _LARGEST:
        raise Refused("it is damaged: a header has a number that is too large")
    return value


def _pairs(fields: bytes) -> list[tuple[int, int]]:
    found = []
    for at in range(0, len(fields) - 23, 24):
        if not fields[at]:
            break
        found.append((_number(fields[at : at + 12]), _number(fields[at + 12 : at + 24])))
    return found


def _records(content: bytes) -> dict[bytes, bytes]:
    """The records of an extended header: LENGTH KEY=VALUE and a newline each. An empty value removes the record."""
    found: dict[bytes, bytes] = {}
    regions: list[bytes] = []
    at = 0
    while at < len(content):
        space = content.find(b" ", at, at + 21)
        digits = content[at:space] if space > at else b""
        end = at + int(digits) if digits.isdigit() else 0
        key, equals, value = content[space + 1 : end - 1].partition(b"=")
        if not at < space < end - 1 < len(content) or content[end - 1 : end] != b"\n" or not key or not equals:
            raise Refused("it is damaged: an extended header cannot be read")
        if b"\0" in key or (b"\0" in value and key in (b"path", b"linkpath", b"uname", b"gname")):
            raise Refused("it is damaged: an extended header has a NUL in a name")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            if key != (b"GNU.sparse.numbytes" if len(regions) % 2 else b"GNU.sparse.offset"):
                raise Refused("it has a damaged map of holes")
            regions.append(value)
        else:
            found[key] = value
        at = end
    if regions:  # the format 0.0, which repeats the same key
        found[b"GNU.sparse.map"] = b",".join(regions)
    return found


def _of(records: Mapping[bytes, bytes], key: bytes, otherwise: int) -> int:
    text = records.get(key)
    return _decimal(text) if text else otherwise


def _is_xattr(key: bytes, value: bytes) -> bool:
    return key.startswith(_XATTR) and bool(value)


def _decimal(text: bytes) -> int:
    if not _DECIMAL.fullmatch(text) or abs(int(text)) > _LARGEST:
        raise Refused("it is damaged: an extended header has an invalid number")
    return int(text)


def _moment(text: bytes) -> int:
    """Seconds, rounded down: a file is never newer than its time."""
    match = _MOMENT.fullmatch(text)
    if match is None:
        raise Refused("it is damaged: an extended header has an invalid time")
    seconds = _decimal(match[1])
    below = text.startswith(b"-") and (match[2] or b"").strip(b"0") != b""
    return seconds - 1 if below else seconds


def _shown(name: bytes) -> str:
    return repr(os.fsdecode(name)[:200])
