"""An unpacked layer, which is a tar archive, as entries of a tree. Every number and name in it may be a lie.

`tarfile` reads it, through a file that lets no header grow: in a hostile archive a header may claim to be larger than memory.
"""

from __future__ import annotations

import os
import re
import struct
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, BinaryIO, cast

from dayfly.build.container.tree import Content, Entry, Kind, Node, attributes
from dayfly.errors import Refused

_HEADER_LIMIT = 64 * 1024
_EXTENDED_LIMIT = 3072
"""Bytes of extended attributes of one file: ext4 has a block of 4 KiB for them."""
_DIGITS = re.compile(rb"[0-9]{1024}")
_PARTS_LIMIT = 65536
_TARGET_LIMIT = 4095
_EXTENDED = "SCHILY.xattr."
_KEPT = re.compile(r"user\.(?!overlay\.).+|security\.capability", re.DOTALL)
"""Attributes that a container's user set. Others are a kernel's own: labels of SELinux, an overlay's notes."""
BAD = (tarfile.TarError, ValueError, IndexError, OverflowError, RecursionError, EOFError, struct.error)
"""What `tarfile` may raise for an archive that is none."""


class Guarded:
    """A file that `tarfile` reads an archive's headers from: none may be large, nor hold what takes it long to look at."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """As `tarfile` wants it."""
        if not 0 <= size <= _HEADER_LIMIT:
            raise tarfile.ReadError(f"it has a header of more than {_HEADER_LIMIT} bytes")
        content = self._file.read(size)
        if size > tarfile.BLOCKSIZE and _DIGITS.search(content):
            raise tarfile.ReadError("it has a header with a number of more than 1024 digits")
        return content

    def members(self, limit: int) -> Iterator[tarfile.TarInfo]:
        """Each member. Raises one of `BAD`, also for an archive that leads back to where it was read already: it has no end."""
        archive = tarfile.open(  # noqa: SIM115 (it has nothing that needs to be closed)
            fileobj=cast("IO[bytes]", self), mode="r:", encoding="utf-8", errors="surrogateescape"
        )
        before, count = -1, 0
        while (member := archive.next()) is not None:
            count += 1
            if archive.offset <= before:
                raise tarfile.ReadError("it has an entry of a negative size")
            if count > limit:
                raise tarfile.ReadError(f"it has more than {limit} entries")
            before = archive.offset
            archive.members = []  # type: ignore[attr-defined]  # or it would keep them all
            yield member


def entries(path: Path, number: int, limit: int) -> Iterator[Entry]:
    """The entries of a layer, in their order, at most `limit`. `number` says which one it is. Raises `Refused`."""
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            for member in Guarded(file).members(limit):
                yield _entry(member, number, size)
        except BAD as error:
            raise Refused(f"layer {number + 1} cannot be read: {error or type(error).__name__}") from error


def _entry(member: tarfile.TarInfo, number: int, end: int) -> Entry:
    if member.type == tarfile.LNKTYPE:
        if not member.linkname:
            raise Refused(f"{member.name[:200]!r} is a hard link to nothing")
        return Entry(member.name, None, member.linkname)
    if member.type in (tarfile.CHRTYPE, tarfile.BLKTYPE):
        return Entry(member.name, None)
    kind = _kind(member)
    about = attributes(member.name, member.mode, member.uid, member.gid, member.mtime, _extended(member, kind))
    if kind is Kind.LINK:
        return Entry(member.name, Node(kind, about, target=_target(member)))
    content = _content(member, number, end) if kind is Kind.FILE else None
    return Entry(member.name, Node(kind, about, content))


def _kind(member: tarfile.TarInfo) -> Kind:
    if member.type in tarfile.REGULAR_TYPES:
        return Kind.FILE
    kinds = {tarfile.DIRTYPE: Kind.FOLDER, tarfile.SYMTYPE: Kind.LINK, tarfile.FIFOTYPE: Kind.FIFO}
    if member.type not in kinds:
        raise Refused(f"{member.name[:200]!r} is of a type that no file has: {member.type!r}")
    return kinds[member.type]


def _target(member: tarfile.TarInfo) -> str:
    target = member.linkname
    if not target or "\0" in target or len(os.fsencode(target)) > _TARGET_LIMIT:
        raise Refused(f"{member.name[:200]!r} is a symbolic link that leads nowhere")
    return target


def _content(member: tarfile.TarInfo, number: int, end: int) -> Content:
    """Where a file's bytes are, checked against the layer's own size."""
    if member.size < 0:
        raise Refused(f"{member.name[:200]!r} has a negative size")
    sparse: list[tuple[int, int]] | None = getattr(member, "sparse", None)
    parts: list[tuple[int, int, int]] = []
    position, last = member.offset_data, 0
    for start, length in [(0, member.size)] if sparse is None else sparse:
        if length == 0:
            continue
        if start < last or length < 0 or start + length > member.size or len(parts) >= _PARTS_LIMIT:
            raise Refused(f"{member.name[:200]!r} has a map of its holes that is wrong")
        parts.append((start, position, length))
        position, last = position + length, start + length
    if position > end:
        raise Refused(f"{member.name[:200]!r} goes on after the end of its layer")
    return Content(number, member.size, tuple(parts))


def _extended(member: tarfile.TarInfo, kind: Kind) -> dict[str, str]:
    if kind not in (Kind.FILE, Kind.FOLDER):
        return {}
    prefixed = ((name.removeprefix(_EXTENDED), value) for name, value in member.pax_headers.items() if name.startswith(_EXTENDED))
    return kept_attributes(member.name, prefixed)


def kept_attributes(path: str, found: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Those of a file's extended attributes that a machine needs. Raises `Refused` when they are too large."""
    kept = {name: value for name, value in found if _KEPT.fullmatch(name)}
    size = sum(len(text.encode(errors="surrogateescape")) for pair in kept.items() for text in pair)
    if size > _EXTENDED_LIMIT or any("\0" in name or "=" in name for name in kept):
        raise Refused(f"{path[:200]!r} has extended attributes of more than {_EXTENDED_LIMIT} bytes")
    return kept
