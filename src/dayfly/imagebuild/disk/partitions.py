"""Reads partition tables: GPT (UEFI specification 2.10, section 5.3) and MBR. Pure, except for reading an open file. No number in
a table is trusted.
"""

from __future__ import annotations

import os
import struct
import uuid
import zlib
from dataclasses import dataclass

from dayfly.errors import Refused

SECTOR = 512
_MOST = 128
_EXTENDED = frozenset({0x05, 0x0F, 0x85})
_PROTECTIVE = 0xEE
_BOOT_CODE = 440

EFI = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
BIOS = "21686148-6449-6e6f-744e-656564454649"
LVM = "e6d6d379-f507-44c2-a23c-238f2a3df928"
_MBR_TYPES = {0xEF: EFI, 0x8E: LVM}


@dataclass(frozen=True)
class Partition:
    """A partition. `type` is the GPT type, also for equivalent MBR types (may be empty)."""

    number: int
    start: int
    size: int
    type: str = ""


@dataclass(frozen=True)
class Table:
    """A disk's partition table. A disk without a table is one partition, number 0. `bios`: there is boot code for a BIOS."""

    partitions: tuple[Partition, ...]
    bios: bool


def read(file: int, size: int) -> Table:
    """The partitions of a disk of `size` bytes in an open file. Raises `Refused` for a damaged table."""
    first = os.pread(file, SECTOR, 0)
    code = any(first[:_BOOT_CODE])
    if len(first) < SECTOR or first[510:512] != b"\x55\xaa" or os.pread(file, 2, 1024 + 56) == b"\x53\xef":
        return Table((Partition(0, 0, size),), code)
    slots = [_slot(first, at) for at in range(4)]
    found = _gpt(file, size) if any(kind == _PROTECTIVE for kind, _, _ in slots) else _mbr(file, slots)
    return Table(tuple(_checked(one, size) for one in found), code)


def _checked(partition: Partition, size: int) -> Partition:
    if partition.start < SECTOR or partition.size <= 0 or partition.start + partition.size > size:
        raise Refused(f"the disk's partition {partition.number} extends beyond the disk's end, or has no valid position")
    return partition


def _slot(sector: bytes, at: int) -> tuple[int, int, int]:
    """The type, the first sector and the count of sectors of an MBR's slot."""
    kind, start, count = struct.unpack_from("<B3xII", sector, 446 + 16 * at + 4)
    return kind, start, count


def _mbr(file: int, slots: list[tuple[int, int, int]]) -> list[Partition]:
    found = []
    for number, (kind, start, count) in enumerate(slots, start=1):
        if kind in _EXTENDED:
            found += _logical(file, start)
        elif kind and count:
            found.append(Partition(number, start * SECTOR, count * SECTOR, _MBR_TYPES.get(kind, "")))
    return found


def _logical(file: int, base: int) -> list[Partition]:
    """The partitions in an extended one: a chain of sectors, which may be a loop."""
    found: list[Partition] = []
    place, seen = base, set[int]()
    while place not in seen and len(seen) < _MOST:
        seen.add(place)
        sector = os.pread(file, SECTOR, place * SECTOR)
        if len(sector) < SECTOR or sector[510:512] != b"\x55\xaa":
            raise Refused("the disk's extended partition is damaged")
        kind, start, count = _slot(sector, 0)
        if kind and count:
            found.append(Partition(5 + len(found), (place + start) * SECTOR, count * SECTOR, _MBR_TYPES.get(kind, "")))
        kind, start, _ = _slot(sector, 1)
        if kind not in _EXTENDED:
            return found
        place = base + start
    raise Refused("the disk's extended partition is a loop")


def _gpt(file: int, size: int) -> list[Partition]:
    header = os.pread(file, SECTOR, SECTOR)
    if len(header) < SECTOR or header[:8] != b"EFI PART":
        raise Refused("the disk's partition table is damaged: there is no GPT where it should be")
    length, checksum = struct.unpack_from("<II", header, 12)
    if not 92 <= length <= SECTOR or zlib.crc32(header[:16] + bytes(4) + header[20:length]) != checksum:
        raise Refused("the disk's partition table is damaged: its checksum is wrong")
    place, count, width, checksum = struct.unpack_from("<QIII", header, 72)
    if not 128 <= width <= 4096 or width & (width - 1) or count > _MOST * 8 or place * SECTOR + count * width > size:
        raise Refused(f"the disk's partition table is damaged: {count} entries of {width} bytes")
    entries = os.pread(file, count * width, place * SECTOR)
    if zlib.crc32(entries) != checksum:
        raise Refused("the disk's partition table is damaged: the checksum of its entries is wrong")
    found = []
    for number in range(count):
        entry = entries[number * width : (number + 1) * width]
        if any(entry[:16]):
            start, end = struct.unpack_from("<QQ", entry, 32)
            kind = str(uuid.UUID(bytes_le=entry[:16]))
            found.append(Partition(number + 1, start * SECTOR, (end + 1 - start) * SECTOR, kind))
    return found
