"""What a qcow2's header says, and whether the file is all of its disk. QEMU would open whatever else it names.

Format: QEMU's docs/interop/qcow2.txt.
"""

from __future__ import annotations

import os
import struct

from dayfly.errors import Refused

MAGIC = b"QFI\xfb"
_EXTENSIONS = {0xE2792ACA: "a backing file", 0x44415441: "another file with its data", 0x0537BE77: "encryption"}
_DIRTY, _CORRUPT, _DATA_FILE, _COMPRESSION, _EXTENDED_L2 = (1 << bit for bit in range(5))
_HEADERS_LIMIT = 64 * 1024


def size(file: int, what: str) -> int:
    """How large the disk is that an open file holds, in bytes. Raises `Refused` for one that needs more than this file."""
    header = os.pread(file, _HEADERS_LIMIT, 0)
    if not header.startswith(MAGIC):
        raise Refused(f"{what} is no qcow2")
    version, backing, backing_size, cluster_bits, length_of_disk, crypt = unpack(">IQIIQI", header, 4, what)
    if version not in (2, 3):
        raise Refused(f"{what} is a qcow image of version {version}", "`qemu-img convert -O qcow2` makes one of version 3")
    if backing or backing_size:
        raise Refused(
            f"{what} is only what differs from another disk image, a backing file that it names",
            "`qemu-img convert -O qcow2` makes one that stands alone, where its backing file is",
        )
    if crypt:
        raise Refused(f"{what} is encrypted", "`qemu-img convert` decrypts it")
    if not 9 <= cluster_bits <= 21:
        raise Refused(f"{what} is damaged: clusters of 2^{cluster_bits} bytes")
    length = 72
    if version == 3:
        incompatible, *_, length = unpack(">QQQII", header, 72, what)
        if incompatible & _DATA_FILE:
            raise Refused(
                f"{what} has its data in another file, which it names", "`qemu-img convert` makes one that stands alone"
            )
        if incompatible & _CORRUPT or incompatible & ~(_DIRTY | _COMPRESSION | _EXTENDED_L2):
            raise Refused(f"{what} is damaged, or of a kind that is not known: it has the features {incompatible:#x}")
        if not 104 <= length <= _HEADERS_LIMIT or length % 8:
            raise Refused(f"{what} is damaged: a header of {length} bytes")
    _qcow2_extensions(header[: 1 << cluster_bits], length, what)
    return length_of_disk


def _qcow2_extensions(header: bytes, offset: int, what: str) -> None:
    """What follows the header, in its cluster."""
    while offset + 8 <= len(header):
        kind, length = struct.unpack_from(">II", header, offset)
        if kind == 0:
            return
        if kind in _EXTENSIONS:
            raise Refused(f"{what} needs {_EXTENSIONS[kind]}", "`qemu-img convert -O qcow2` makes one that stands alone")
        offset += 8 + length + -length % 8


def unpack(layout: str, content: bytes, offset: int, what: str) -> tuple[int, ...]:
    """Numbers of a header, as `struct` has them. Raises `Refused` where it is cut short."""
    try:
        return struct.unpack_from(layout, content, offset)
    except struct.error:
        raise Refused(f"{what} ends in its header") from None
