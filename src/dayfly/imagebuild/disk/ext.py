"""Reads the files of an ext2, ext3 or ext4 filesystem from an open file: nothing is mounted and no program is run.

The result is a tree as in `dayfly.imagebuild.containerimage`, whose files' contents are ranges of the disk. Layout: the kernel's
Documentation/filesystems/ext4. No number is trusted: each is checked before it is used.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dayfly.errors import Refused
from dayfly.imagebuild.containerimage.layer import needed_attributes
from dayfly.imagebuild.containerimage.tree import Attributes, Content, Kind, Limits, Node, attributes

_SUPERBLOCK, _MAGIC = 1024, 0xEF53
_ROOT = 2
_FILETYPE, _RECOVER, _EXTENTS, _64BIT, _MMP, _FLEX_BG, _EA_INODE, _CSUM_SEED, _LARGEDIR, _INLINE, _CASEFOLD = (
    *(0x2, 0x4, 0x40, 0x80, 0x100, 0x200, 0x400, 0x2000, 0x4000, 0x8000, 0x20000),
)
_KNOWN = _FILETYPE | _RECOVER | _EXTENTS | _64BIT | _MMP | _FLEX_BG | _EA_INODE | _CSUM_SEED | _LARGEDIR | _INLINE | _CASEFOLD
_UNKNOWN_NAMES = {0x1: "compression", 0x8: "an external journal", 0x10: "meta_bg", 0x10000: "encryption"}
_INODE_EXTENTS, _INODE_INLINE, _INODE_ENCRYPTED = 0x80000, 0x10000000, 0x800
_EXTENT_MAGIC, _XATTR_MAGIC = 0xF30A, 0xEA020000
_DEPTH = 5
_PARTS = 65536
_READ_MOST, _PARTS_MOST = 8 * 1024**3, 8 * 1024**2
"""Limits on bytes read and extents found, of all files together: a hostile filesystem may name the same block a million times."""
_FOLDER_SIZE = 256 * 1024**2
_LINK_SIZE = 4095
_TYPES = {0x4: Kind.FOLDER, 0x8: Kind.FILE, 0xA: Kind.LINK, 0x1: Kind.FIFO}
_PREFIXES = {1: "user.", 6: "security.", 7: "system."}
_INLINE_DATA = "system.data"


@dataclass(frozen=True)
class _Inode:
    """The parts of an inode that are needed. `block` is its field of block numbers."""

    number: int
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    flags: int
    block: bytes
    body: bytes
    xattr_block: int

    @property
    def kind(self) -> int:
        return self.mode >> 12


def is_ext(file: int, offset: int) -> bool:
    """Whether an ext filesystem begins at this offset."""
    return os.pread(file, 2, offset + _SUPERBLOCK + 56) == struct.pack("<H", _MAGIC)


class Filesystem:
    """A filesystem at `offset` in an open file, of at most `size` bytes. Raises `Refused` if it cannot be read."""

    def __init__(self, file: int, offset: int, size: int, limits: Limits) -> None:
        self._file, self._offset, self._limits = file, offset, limits
        self._bytes = self._parts = 0
        raw = os.pread(file, 1024, offset + _SUPERBLOCK)
        if len(raw) < 1024 or struct.unpack_from("<H", raw, 56)[0] != _MAGIC:
            raise Refused("there is no ext filesystem")
        log_block, self._incompatible = struct.unpack_from("<I", raw, 24)[0], struct.unpack_from("<I", raw, 96)[0]
        unknown = self._incompatible & ~_KNOWN
        if unknown:
            names = ", ".join(name for bit, name in _UNKNOWN_NAMES.items() if unknown & bit) or hex(unknown)
            raise Refused(f"the filesystem has unsupported features: {names}")
        self._block = 1024 << min(log_block, 7)
        self._inodes, low = struct.unpack_from("<II", raw, 0)
        high = struct.unpack_from("<I", raw, 0x150)[0] if self._incompatible & _64BIT else 0
        self._blocks = (high << 32) + low
        self._first, self._per_group = struct.unpack_from("<I", raw, 20)[0], struct.unpack_from("<I", raw, 40)[0]
        old = struct.unpack_from("<I", raw, 76)[0] == 0
        self._inode_size = 128 if old else struct.unpack_from("<H", raw, 88)[0]
        self._descriptor = struct.unpack_from("<H", raw, 254)[0] if self._incompatible & _64BIT else 32
        sane = log_block <= 6 and self._per_group > 0 and 128 <= self._inode_size <= self._block and self._first <= 1
        if not sane or self._inode_size % 4 or self._descriptor < 32 or self._blocks * self._block > size:
            raise Refused("the filesystem is damaged, or larger than its partition: its superblock is invalid")

    @property
    def needs_recovery(self) -> bool:
        """Whether its journal must be replayed: it was not unmounted."""
        return bool(self._incompatible & _RECOVER)

    def tree(self) -> Node:
        """The tree of all files."""
        found: dict[int, Node] = {}
        root = self._inode(_ROOT)
        if _TYPES.get(root.kind) is not Kind.FOLDER:
            raise Refused("the filesystem has no root folder")
        top = found[_ROOT] = self._node(root, "/")
        waiting: list[tuple[_Inode, Node, str, int]] = [(root, top, "", 0)]
        entries = 0
        while waiting:
            inode, folder, path, depth = waiting.pop()
            if depth >= self._limits.depth:
                raise Refused(f"{path[:200]!r} is more than {self._limits.depth} folders deep")
            for name, number in self._names(inode, path):
                entries += 1
                if entries > self._limits.entries:
                    raise Refused(f"the filesystem has more than the limit of {self._limits.entries} names")
                below = f"{path}/{name}"
                node = found.get(number)
                if node is None:
                    inner = self._inode(number)
                    if inner.kind not in _TYPES:
                        continue  # devices and sockets: a machine has its own
                    node = found[number] = self._node(inner, below)
                    if node.kind is Kind.FOLDER:
                        waiting.append((inner, node, below, depth + 1))
                elif node.kind is Kind.FOLDER:
                    raise Refused(f"{below[:200]!r} is a folder with two names: the filesystem is damaged")
                folder.children[name] = node
        return top

    def _read(self, start: int, size: int, what: str) -> bytes:
        self._bytes += size
        if self._bytes > _READ_MOST:
            raise Refused("the filesystem is damaged: reading it took more than its size")
        content = os.pread(self._file, size, self._offset + start)
        if start + size > self._blocks * self._block or len(content) != size:
            raise Refused(f"the filesystem is damaged: {what} is outside of it")
        return content

    def _block_at(self, number: int, what: str) -> bytes:
        return self._read(number * self._block, self._block, what)

    def _inode(self, number: int) -> _Inode:
        if not 1 <= number <= self._inodes:
            raise Refused(f"the filesystem is damaged: there is no inode {number}")
        group, index = divmod(number - 1, self._per_group)
        table = self._read((_SUPERBLOCK // self._block + 1) * self._block + group * self._descriptor, self._descriptor, "a group")
        place = struct.unpack_from("<I", table, 8)[0]
        if self._descriptor >= 64:
            place += struct.unpack_from("<I", table, 0x28)[0] << 32
        raw = self._read(place * self._block + index * self._inode_size, self._inode_size, f"inode {number}")
        mode, uid, size, mtime, gid = (
            *struct.unpack_from("<HHI", raw, 0),
            struct.unpack_from("<I", raw, 16)[0],
            struct.unpack_from("<H", raw, 24)[0],
        )
        flags, acl = struct.unpack_from("<I", raw, 32)[0], struct.unpack_from("<I", raw, 104)[0]
        high, acl_high = struct.unpack_from("<I", raw, 108)[0], struct.unpack_from("<H", raw, 118)[0]
        uid_high, gid_high = struct.unpack_from("<HH", raw, 120)
        if flags & _INODE_ENCRYPTED:
            raise Refused("the filesystem has encrypted files")
        return _Inode(
            number,
            mode,
            uid | uid_high << 16,
            gid | gid_high << 16,
            size | high << 32,
            _time(mtime, raw),
            flags,
            raw[40:100],
            raw[128:],
            acl | acl_high << 32,
        )

    def _node(self, inode: _Inode, path: str) -> Node:
        kind = _TYPES[inode.kind]
        kept: dict[str, str] = {}
        if kind in (Kind.FILE, Kind.FOLDER):
            found = ((name, value.decode("utf-8", "surrogateescape")) for name, value in self._attributes(inode).items())
            kept = needed_attributes(path, found)
        about: Attributes = attributes(path, inode.mode, inode.uid, inode.gid, inode.mtime, kept)
        if kind is Kind.LINK:
            return Node(kind, about, target=self._target(inode, path))
        if kind is not Kind.FILE:
            return Node(kind, about)
        if inode.flags & _INODE_INLINE:
            return Node(kind, about, inline=self._inline(inode)[: inode.size])
        if inode.size > self._limits.size:
            raise Refused(f"{path[:200]!r} is larger than the limit of {self._limits.size} bytes for all files")
        parts: list[tuple[int, int, int]] = []
        for start, place, length in self._runs(inode, path):
            stop = min(start + length, inode.size)
            if stop <= start:
                continue
            last = parts[-1] if parts else (0, 0, 0)
            if start < last[0] + last[2]:
                raise Refused(f"the filesystem is damaged: parts of {path[:200]!r} overlap")
            if last[2] and (last[0] + last[2], last[1] + last[2]) == (start, self._offset + place):
                parts[-1] = (last[0], last[1], last[2] + stop - start)
            else:
                parts.append((start, self._offset + place, stop - start))
        return Node(kind, about, Content(0, inode.size, tuple(parts)))

    def _target(self, inode: _Inode, path: str) -> str:
        if not 0 < inode.size <= _LINK_SIZE:
            raise Refused(f"{path[:200]!r} is a symbolic link of {inode.size} bytes")
        content = self._small(inode, path) if inode.flags & (_INODE_INLINE | _INODE_EXTENTS) or inode.size >= 60 else inode.block
        target = content[: inode.size]
        if len(target) < inode.size or b"\0" in target:
            raise Refused(f"{path[:200]!r} is a symbolic link that leads nowhere")
        return os.fsdecode(target)

    def _small(self, inode: _Inode, path: str) -> bytes:
        """The content of a small file, its holes filled."""
        if inode.flags & _INODE_INLINE:
            return self._inline(inode)
        content = bytearray(inode.size)
        for start, place, length in self._runs(inode, path):
            stop = min(start + length, inode.size)
            if stop > start:
                content[start:stop] = self._read(place, stop - start, path)
        return bytes(content)

    def _names(self, inode: _Inode, path: str) -> Iterator[tuple[str, int]]:
        """The entries of a folder. An indexed folder can be read as a plain one: its index is in entries without an inode."""
        if inode.size > _FOLDER_SIZE:
            raise Refused(f"the folder {(path or '/')[:200]!r} has {inode.size} bytes")
        if inode.flags & _INODE_INLINE:
            content = self._inline(inode)
            blocks = [content[4:60], content[60:]]
        else:
            content = self._small(inode, path)
            blocks = [content[at : at + self._block] for at in range(0, len(content), self._block)]
        seen: set[bytes] = set()
        for block in blocks:
            for name, number in _entries(block, path):
                if name in (b".", b".."):
                    continue
                if name in seen or b"/" in name or b"\0" in name:
                    raise Refused(f"the filesystem is damaged: the folder {(path or '/')[:200]!r} has an invalid name")
                seen.add(name)
                yield os.fsdecode(name), number

    def _runs(self, inode: _Inode, path: str) -> Iterator[tuple[int, int, int]]:
        """Where a file's bytes are, as (offset in the file, offset in the filesystem, length), without holes."""
        find: Callable[[_Inode], Iterator[tuple[int, int, int]]]
        find = self._extents if inode.flags & _INODE_EXTENTS else self._mapped
        for count, (start, place, length) in enumerate(find(inode)):
            self._parts += 1
            if count >= _PARTS or self._parts > _PARTS_MOST:
                raise Refused(f"{path[:200]!r} is in too many parts")
            if place <= 0 or place + length > self._blocks:
                raise Refused(f"the filesystem is damaged: {path[:200]!r} extends beyond its end")
            yield start * self._block, place * self._block, length * self._block

    def _extents(self, inode: _Inode) -> Iterator[tuple[int, int, int]]:
        waiting = [(inode.block, _DEPTH)]
        while waiting:
            node, above = waiting.pop()
            magic, count, _, depth = struct.unpack_from("<HHHH", node, 0)
            if magic != _EXTENT_MAGIC or depth > above or 12 + count * 12 > len(node):
                raise Refused(f"the filesystem is damaged: the extents of inode {inode.number}")
            below = []
            for at in range(12, 12 + count * 12, 12):
                first, length, high, low = struct.unpack_from("<IHHI", node, at)
                if depth:
                    leaf, leaf_high = struct.unpack_from("<IH", node, at + 4)
                    below.append((self._block_at(leaf | leaf_high << 32, "an extent"), depth - 1))
                elif 0 < length <= 32768:  # more than that: an extent that was reserved and never written
                    yield first, low | high << 32, length
            if len(waiting) + len(below) > _PARTS:
                raise Refused(f"the filesystem is damaged: the extents of inode {inode.number}")
            waiting += reversed(below)

    def _mapped(self, inode: _Inode) -> Iterator[tuple[int, int, int]]:
        """The blocks of a file of ext2 or ext3."""
        numbers = struct.unpack("<15I", inode.block)
        for at, number in enumerate(numbers[:12]):
            if number:
                yield at, number, 1
        first, each = 12, self._block // 4
        end = -(-inode.size // self._block)
        for levels, number in enumerate(numbers[12:], start=1):
            if number and first < end:
                yield from self._indirect(number, levels, first, end)
            first += each**levels

    def _indirect(self, number: int, levels: int, first: int, end: int) -> Iterator[tuple[int, int, int]]:
        content = self._block_at(number, "an indirect block")
        span = (self._block // 4) ** (levels - 1)
        for at, (inner,) in enumerate(struct.iter_unpack("<I", content)):
            start = first + at * span
            if start >= end:
                return
            if inner and levels == 1:
                yield start, inner, 1
            elif inner:
                yield from self._indirect(inner, levels - 1, start, end)

    def _inline(self, inode: _Inode) -> bytes:
        return inode.block + dict(self._in_inode(inode)).get(_INLINE_DATA, b"")

    def _attributes(self, inode: _Inode) -> dict[str, bytes]:
        found = dict(self._in_inode(inode))
        if inode.xattr_block:
            block = self._block_at(inode.xattr_block, "extended attributes")
            if struct.unpack_from("<I", block, 0)[0] != _XATTR_MAGIC:
                raise Refused(f"the filesystem is damaged: the attributes of inode {inode.number}")
            found |= dict(self._xattrs(block, 32, 0))
        return found

    def _in_inode(self, inode: _Inode) -> Iterator[tuple[str, bytes]]:
        if len(inode.body) < 4:
            return
        start = struct.unpack_from("<H", inode.body, 0)[0]
        if start + 4 <= len(inode.body) and struct.unpack_from("<I", inode.body, start)[0] == _XATTR_MAGIC:
            yield from self._xattrs(inode.body[start + 4 :], 0, 0)

    def _xattrs(self, area: bytes, at: int, base: int) -> Iterator[tuple[str, bytes]]:
        """Attributes by name. A value in an inode of its own is left out: it is larger than the limit."""
        while at + 16 <= len(area) and any(area[at : at + 4]):
            length, prefix, place, other, size = struct.unpack_from("<BBHII", area, at)
            name = area[at + 16 : at + 16 + length]
            if not other:
                if base + place + size > len(area):
                    raise Refused("the filesystem is damaged: an extended attribute")
                if prefix in _PREFIXES:
                    yield _PREFIXES[prefix] + os.fsdecode(name), area[base + place : base + place + size]
            at += 16 + length + -length % 4


def _entries(block: bytes, path: str) -> Iterator[tuple[bytes, int]]:
    at = 0
    while at + 8 <= len(block):
        number, length, size = struct.unpack_from("<IHB", block, at)
        length = length if length not in (0, 65535) or len(block) < 65536 else 65536
        if length < 8 or length % 4 or at + length > len(block) or (number and 8 + size > length):
            raise Refused(f"the filesystem is damaged: the folder {(path or '/')[:200]!r}")
        if number and size:
            yield block[at + 8 : at + 8 + size], number
        at += length


def _time(seconds: int, raw: bytes) -> int:
    """Seconds since the epoch: signed, with two more bits if the inode has room for them."""
    signed = seconds - (1 << 32) if seconds & 1 << 31 else seconds
    if len(raw) >= 140 and struct.unpack_from("<H", raw, 128)[0] >= 12:
        signed += (struct.unpack_from("<I", raw, 136)[0] & 3) << 32
    return signed
