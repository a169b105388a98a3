"""Headers of disk images, byte by byte, also such as no tool would write."""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

SECTOR = 512
SIZE = 5 * 1024**2
QCOW2 = b"QFI\xfb"
DESCRIPTION = b"""# Disk DescriptorFile
version=1
CID=12345678
parentCID=ffffffff
createType="monolithicSparse"

# Extent description
RW 10240 SPARSE "disk.vmdk"

ddb.adapterType = "ide"
"""


@contextlib.contextmanager
def opened(content: bytes | Path) -> Iterator[int]:
    """An open file with this content."""
    if isinstance(content, Path):
        file = os.open(content, os.O_RDONLY)
    else:
        file = os.memfd_create("disk")
        os.write(file, content)
    try:
        yield file
    finally:
        os.close(file)


def qcow2(
    *,
    version: int = 3,
    backing: int = 0,
    backing_size: int = 0,
    cluster_bits: int = 16,
    size: int = SIZE,
    crypt: int = 0,
    incompatible: int = 0,
    length: int = 104,
    extensions: Sequence[tuple[int, bytes]] = (),
) -> bytes:
    """As QEMU's docs/interop/qcow2.txt has it."""
    first = QCOW2 + struct.pack(">IQIIQI", version, backing, backing_size, cluster_bits, size, crypt)
    header = first.ljust(72, b"\0")
    if version >= 3:
        header += struct.pack(">QQQII", incompatible, 0, 0, 4, length)
    for kind, content in extensions:
        header += struct.pack(">II", kind, len(content)) + content + bytes(-len(content) % 8)
    return header + bytes(8) + b"/etc/passwd" + bytes(600)


def vmdk(
    description: bytes = DESCRIPTION,
    *,
    version: int = 1,
    capacity: int = SIZE // SECTOR,
    place: int = 1,
    sectors: int = 20,
    at_end: bool = False,
) -> bytes:
    """A hosted sparse extent with its description in it; with its tables `at_end`, as those that are made for streams."""
    directory = 2**64 - 1 if at_end else 50
    header = b"KDMV" + struct.pack("<IIQQQQIQQQ", version, 3, capacity, 128, place, sectors, 512, 0, directory, 128)
    header = header.ljust(SECTOR, b"\0")
    whole = header + description.ljust(20 * SECTOR, b"\0")
    return whole + header + bytes(SECTOR) if at_end else whole


def vdi(
    *, used: int = 0, version: int = 0x10001, kind: int = 1, size: int = SIZE, link: bytes = bytes(16), parent: bytes = bytes(16)
) -> bytes:
    """VirtualBox's."""
    header = b"<<< Oracle VM VirtualBox Disk Image >>>\n".ljust(64, b"\0")
    header += struct.pack("<IIII", 0xBEDA107F, version, 400, kind)
    header = header.ljust(0x154, b"\0") + struct.pack("<II", 512, 1024)
    header = header.ljust(0x170, b"\0") + struct.pack("<QIIII", size, 1024**2, 0, 5, used)
    return header.ljust(0x188, b"\0") + bytes(32) + link + parent + bytes(600)


def mbr(*slots: tuple[int, int, int], code: bytes = b"") -> bytes:
    """A disk's first sector: types, first sectors and counts."""
    table = b"".join(struct.pack("<B3xB3xII", 0, kind, start, count) for kind, start, count in slots)
    return code.ljust(446, b"\0") + table.ljust(64, b"\0") + b"\x55\xaa"


def gpt(*entries: tuple[bytes, int, int], count: int = 128, width: int = 128, code: bytes = b"", spoilt: str = "") -> bytes:
    """The first sectors of a disk: types, first and last sectors. `spoilt` names the checksum that is wrong."""
    table = b"".join(
        (kind + bytes(15) + b"u" + struct.pack("<QQ", first, last)).ljust(width, b"\0") for kind, first, last in entries
    )
    table = table.ljust(count * width, b"\0") if count * width < 1024**2 else table
    sums = zlib.crc32(table) ^ (spoilt == "entries")
    header = b"EFI PART" + struct.pack("<IIIIQQQQ16sQIII", 0x10000, 92, 0, 0, 1, 9999, 34, 9000, bytes(16), 2, count, width, sums)
    header = header[:16] + struct.pack("<I", zlib.crc32(header) ^ (spoilt == "header")) + header[20:]
    return mbr((0xEE, 1, 9999), code=code) + header.ljust(SECTOR, b"\0") + table
