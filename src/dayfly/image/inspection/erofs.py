"""Reads erofs filesystems without mounting them: those that Dayfly makes (no compression, or LZ4 in clusters of one block).

The format is that of Linux' fs/erofs/erofs_fs.h and zmap.c. All input is hostile: every position is checked to be within the
file, every size and count has a limit, and no directory is entered twice.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from enum import IntEnum

from dayfly.errors import Corrupt, Refused
from dayfly.image.inspection.lz4 import decompress
from dayfly.values import dataclass

MOST_FILES = 2_000_000
MOST_DIRECTORY = 16 * 1024**2
"""Bytes of one directory; `MOST_METADATA` limits those of all directories and extended attributes that are read."""
MOST_METADATA = 128 * 1024**2
_MAGIC = 0xE0F5E1E2
_SUPERBLOCK = 1024
_ZERO_PADDING = 0x1
"""The one incompatible feature that is supported: compressed blocks that are not full begin with zeros."""
_BLOCK = 4096
_WINDOW = 64 * _BLOCK
_WINDOWS = 64
_NAME_LIMIT = 255
_XATTR_PREFIXES = {1: b"user.", 4: b"trusted.", 6: b"security."}


class Layout(IntEnum):
    """How a file's content is stored."""

    PLAIN = 0
    COMPRESSED_FULL = 1
    INLINE = 2
    COMPRESSED_COMPACT = 3


@dataclass(frozen=True)
class Inode:
    """One file. `nid` is its number, `position` the end of the inode in the filesystem (its extended attributes follow)."""

    nid: int
    mode: int
    uid: int
    gid: int
    size: int
    layout: int
    block: int
    position: int
    xattrs: int

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.mode)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.mode)


class Erofs:
    """A filesystem in an open file. Raises `Refused` for unsupported features, `Corrupt` if it is not erofs."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._size = os.fstat(file).st_size
        self._windows: dict[int, bytes] = {}
        self._metadata = 0
        superblock = self._read(_SUPERBLOCK, 128)
        magic, _, _, bits, _, root = struct.unpack_from("<IIIBBH", superblock)
        if magic != _MAGIC:
            raise Corrupt("it is not an erofs filesystem")
        self._meta, self._shared = (block * _BLOCK for block in struct.unpack_from("<II", superblock, 40))
        (features,) = struct.unpack_from("<I", superblock, 80)
        if 1 << bits != _BLOCK or features & ~_ZERO_PADDING or superblock[90]:
            raise Refused("it is an erofs filesystem with features that are not supported", "make it with mkfs.erofs -zlz4hc")
        self.root = self.inode(root)
        if not self.root.is_directory:
            raise Corrupt("the filesystem's root is not a directory")

    def inode(self, nid: int) -> Inode:
        """The inode of a number. Raises `Corrupt`."""
        position = self._meta + nid * 32
        raw = self._read(position, 64, least=32)
        form, icount, mode = struct.unpack_from("<HHH", raw)
        if form & 1:
            if len(raw) < 64:
                raise Corrupt("an inode is truncated")
            size, block = struct.unpack_from("<QI", raw, 8)
            uid, gid = struct.unpack_from("<II", raw, 24)
        else:
            (size,) = struct.unpack_from("<I", raw, 8)
            (block,) = struct.unpack_from("<I", raw, 16)
            uid, gid = struct.unpack_from("<HH", raw, 24)
        after = position + (64 if form & 1 else 32)
        return Inode(nid, mode, uid, gid, size, form >> 1 & 7, block, after, 12 + (icount - 1) * 4 if icount else 0)

    def read(self, inode: Inode, limit: int) -> bytes:
        """A file's content, or a link's target. Raises `Refused` for one larger than `limit`, `Corrupt`."""
        if inode.size > limit:
            raise Refused(f"it has {inode.size} bytes, more than the limit of {limit}")
        if inode.size == 0:
            return b""
        if inode.layout == Layout.PLAIN:
            return self._read(inode.block * _BLOCK, inode.size)
        if inode.layout == Layout.INLINE:
            tail = inode.size % _BLOCK
            whole = inode.size - tail
            content = self._read(inode.block * _BLOCK, whole) if whole else b""
            return content + self._read(inode.position + inode.xattrs, tail)
        if inode.layout in (Layout.COMPRESSED_FULL, Layout.COMPRESSED_COMPACT):
            return b"".join(self._extents(inode))
        raise Refused("it is stored in a format that is not supported")

    def entries(self, directory: Inode) -> Iterator[tuple[bytes, int]]:
        """The names in a directory and their inodes' numbers, without `.` and `..`. Raises `Corrupt` or `Refused`."""
        self._spend(directory.size)
        content = self.read(directory, MOST_DIRECTORY)
        for start in range(0, len(content), _BLOCK):
            yield from _names(content[start : start + _BLOCK])

    def xattrs(self, inode: Inode) -> dict[bytes, bytes]:
        """A file's extended attributes. Raises `Corrupt`."""
        if inode.xattrs < 12:
            return {}
        self._spend(inode.xattrs)
        raw = self._read(inode.position, inode.xattrs)
        shared = raw[4]
        position = 12 + 4 * shared
        if position > len(raw):
            raise Corrupt("extended attributes are truncated")
        found: dict[bytes, bytes] = {}
        for (number,) in struct.iter_unpack("<I", raw[12:position]):
            length, _, size = struct.unpack("<BBH", self._read(self._shared + number * 4, 4))
            self._spend(length + size)
            found |= _attribute(self._read(self._shared + number * 4, 4 + length + size), 0)[0]
        while position + 4 <= len(raw) and raw[position : position + 4] != b"\0\0\0\0":
            one, position = _attribute(raw, position)
            found |= one
        return found

    def _spend(self, size: int) -> None:
        self._metadata += size
        if self._metadata > MOST_METADATA:
            raise Refused(f"its directories and attributes have more than {MOST_METADATA} bytes")

    def _read(self, position: int, size: int, least: int | None = None) -> bytes:
        """Bytes of the filesystem: fewer than `size` at its end, where `least` allows it. Raises `Corrupt`."""
        if position < 0 or position + (size if least is None else least) > self._size:
            raise Corrupt("the filesystem refers to data beyond its end")
        if size > _WINDOW:
            return self._from_file(position, min(size, self._size - position))
        start = position // _WINDOW * _WINDOW
        content = self._window(start)[position - start : position - start + size]
        if len(content) < size and start + _WINDOW < self._size:
            content += self._window(start + _WINDOW)[: size - len(content)]
        return content

    def _window(self, start: int) -> bytes:
        found = self._windows.pop(start, None)
        if found is None:
            found = self._from_file(start, min(_WINDOW, self._size - start))
            if len(self._windows) >= _WINDOWS:
                del self._windows[next(iter(self._windows))]
        self._windows[start] = found
        return found

    def _from_file(self, position: int, size: int) -> bytes:
        content = b""
        while len(content) < size:
            chunk = os.pread(self._file, size - len(content), position + len(content))
            if not chunk:
                raise Corrupt("the filesystem's file was truncated while it was read")
            content += chunk
        return content

    def _extents(self, inode: Inode) -> Iterator[bytes]:
        """The content of a compressed file by extents: each is one block in the filesystem."""
        heads = list(self._heads(inode))
        if inode.size and (not heads or heads[0][0] != 0):
            raise Corrupt("the first extent of a compressed file is missing")
        ends = [start for start, _, _ in heads[1:]] + [inode.size]
        for (start, block, plain), end in zip(heads, ends, strict=True):
            if end < start:
                raise Corrupt("the extents of a compressed file overlap")
            stored = self._read(block * _BLOCK, _BLOCK)
            if plain and end - start > _BLOCK:
                raise Corrupt("an extent of a compressed file is larger than its block")
            yield stored[: end - start] if plain else decompress(stored.lstrip(b"\0"), end - start)

    def _heads(self, inode: Inode) -> Iterator[tuple[int, int, bool]]:
        """Where each extent of a compressed file begins, its block, and whether it is stored uncompressed."""
        base = -(-(inode.position + inode.xattrs) // 8) * 8
        _, advise, algorithm, bits = struct.unpack("<IHBB", self._read(base, 8))
        if advise & ~1 or algorithm or bits:
            raise Refused("it is compressed in a format that is not supported")
        count = -(-inode.size // _BLOCK)
        compact = inode.layout == Layout.COMPRESSED_COMPACT
        indexes = self._compact(base + 8, count, two=bool(advise & 1)) if compact else self._full(base + 16, count)
        for number, (kind, offset, block) in enumerate(indexes):
            if kind in (_PLAIN, _HEAD):
                if offset >= _BLOCK:
                    raise Corrupt("an extent of a compressed file begins in another block")
                start = number * _BLOCK + offset
                if start < inode.size:
                    yield start, block, kind == _PLAIN
            elif kind != _INNER:
                raise Refused("it is compressed in a format that is not supported")

    def _full(self, base: int, count: int) -> Iterator[tuple[int, int, int]]:
        """Kind, offset and block of each block of a file, from an index of eight bytes for each."""
        for advise, offset, block in struct.iter_unpack("<HHI", self._read(base, 8 * count)):
            yield advise & 3, offset, block

    def _compact(self, base: int, count: int, *, two: bool) -> Iterator[tuple[int, int, int]]:
        """The same from packs: two blocks in eight bytes, or (in the middle, on a boundary of 32) sixteen in 32."""
        initial = min((32 - base % 32) // 4 % 8, count)
        middle = (count - initial) // 16 * 16 if two else 0
        for length, width, packed in ((initial, 4, 2), (middle, 2, 16), (count - initial - middle, 4, 2)):
            step = width * packed
            for start in range(base, base + length * width, step):
                units = unpack(self._read(start, step), packed)
                yield from units[: (base + length * width - start + width - 1) // width]
            base += length * width


_PLAIN, _HEAD, _INNER = 0, 1, 2


def unpack(pack: bytes, count: int) -> list[tuple[int, int, int]]:
    """Kind, offset and block of the `count` blocks of a compacted pack, see `unpack_compacted_index` in zmap.c."""
    width = (len(pack) - 4) * 8 // count
    bits = int.from_bytes(pack[:-4], "little")
    values = [bits >> width * index for index in range(count)]
    lows, kinds = [value & 0xFFF for value in values], [value >> 12 & 3 for value in values]
    first = int.from_bytes(pack[-4:], "little")
    units: list[tuple[int, int, int]] = []
    for index in range(count):
        before, place = 1, index
        while place > 0:
            place -= 1
            if kinds[place] == _INNER:
                place -= lows[place]
            before += place >= 0
        units.append((kinds[index], lows[index], (first + before) & 0xFFFFFFFF))
    return units


def _names(block: bytes) -> Iterator[tuple[bytes, int]]:
    """The names in one block of a directory: entries of twelve bytes, then the names."""
    if len(block) < 12:
        raise Corrupt("a directory is truncated")
    (first,) = struct.unpack_from("<H", block, 8)
    if first % 12 or not 12 <= first <= len(block):
        raise Corrupt("the first name of a directory has an invalid offset")
    entries = [struct.unpack_from("<QH", block, start) for start in range(0, first, 12)]
    ends = [offset for _, offset in entries[1:]] + [len(block)]
    for (nid, offset), end in zip(entries, ends, strict=True):
        if not first <= offset < end <= len(block):
            raise Corrupt("the names of a directory have invalid offsets")
        name = block[offset:end].partition(b"\0")[0]
        if not name or len(name) > _NAME_LIMIT or b"/" in name:
            raise Corrupt("a directory has an invalid name")
        if name not in (b".", b".."):
            yield name, nid


def _attribute(raw: bytes, position: int) -> tuple[dict[bytes, bytes], int]:
    """One extended attribute, and where the next one begins."""
    length, kind, size = struct.unpack_from("<BBH", raw, position)
    begin = position + 4
    end = begin + length + size
    if end > len(raw):
        raise Corrupt("an extended attribute is truncated")
    name = _XATTR_PREFIXES.get(kind, b"system.") + raw[begin : begin + length]
    return {name: raw[begin + length : end]}, -(-end // 4) * 4
