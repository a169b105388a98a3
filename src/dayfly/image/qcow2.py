"""Reads a qcow2 header, and refuses a disk that needs other files: QEMU would open any file that the header names.

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
    """The size of the disk in an open file, in bytes. Raises `Refused` for a disk that needs other files."""
    header = os.pread(file, _HEADERS_LIMIT, 0)
    if not header.startswith(MAGIC):
        raise Refused(f"{what} is not a qcow2 image")
    version, backing, backing_size, cluster_bits, length_of_disk, crypt = unpack(">IQIIQI", header, 4, what)
    if version not in (2, 3):
        raise Refused(f"{what} is a qcow image of version {version}", "`qemu-img convert -O qcow2` makes one of version 3")
    if backing or backing_size:
        raise Refused(
            f"{what} needs a backing file: it has only the differences from it",
            "make a complete one with `qemu-img convert -O qcow2`, where the backing file is",
        )
    if crypt:
        raise Refused(f"{what} is encrypted", "`qemu-img convert` decrypts it")
    if not 9 <= cluster_bits <= 21:
        raise Refused(f"{what} is damaged: clusters of 2^{cluster_bits} bytes")
    length = 72
    if version == 3:
        incompatible, *_, length = unpack(">QQQII", header, 72, what)
        if incompatible & _DATA_FILE:
            raise Refused(f"{what} has its data in another file", "make a complete one with `qemu-img convert`")
        if incompatible & _CORRUPT or incompatible & ~(_DIRTY | _COMPRESSION | _EXTENDED_L2):
            raise Refused(f"{what} is damaged or has unknown features: {incompatible:#x}")
        if not 104 <= length <= _HEADERS_LIMIT or length % 8:
            raise Refused(f"{what} is damaged: a header of {length} bytes")
    _qcow2_extensions(header[: 1 << cluster_bits], length, what)
    return length_of_disk


def _qcow2_extensions(header: bytes, offset: int, what: str) -> None:
    """Check the extensions after the header, in its cluster."""
    while offset + 8 <= len(header):
        kind, length = struct.unpack_from(">II", header, offset)
        if kind == 0:
            return
        if kind in _EXTENSIONS:
            raise Refused(f"{what} needs {_EXTENSIONS[kind]}", "make a complete one with `qemu-img convert -O qcow2`")
        offset += 8 + length + -length % 8


def unpack(layout: str, content: bytes, offset: int, what: str) -> tuple[int, ...]:
    """Numbers of a header, in a format of `struct`. Raises `Refused` if it is truncated."""
    try:
        return struct.unpack_from(layout, content, offset)
    except struct.error:
        raise Refused(f"{what} is truncated in its header") from None
