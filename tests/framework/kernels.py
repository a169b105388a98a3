"""Kernels, made up."""

from __future__ import annotations

import struct


def note(kind: int, name: bytes, content: bytes) -> bytes:
    padded = name + b"\0" * (-len(name) % 4)
    return struct.pack("<III", len(name), len(content), kind) + padded + content + b"\0" * (-len(content) % 4)


PVH = note(18, b"Xen\0", struct.pack("<I", 0x1000000))


def elf(notes: bytes = note(6, b"Linux\0", b"x") + PVH) -> bytes:
    """An ELF file with a segment that is loaded and one of notes."""
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    start = 64 + 2 * 56
    segments = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 8, 8, 4096)
    segments += struct.pack("<IIQQQQQQ", 4, 4, start, 0, 0, len(notes), len(notes), 4)
    return header + segments + notes + b"code" * 1000


def bzimage(payload: bytes, *, version: int = 0x020F, setup: int = 3, offset: int = 100, length: int | None = None) -> bytes:
    image = bytearray(b"\0" * (1 + (setup or 4)) * 512)
    image[0x1F1] = setup
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<HH", image, 0x206, version, 0)
    struct.pack_into("<H", image, 0x20E, 0x300)
    image[0x500:0x520] = b"6.1.0-44-amd64 (someone@example)"
    struct.pack_into("<II", image, 0x248, offset, len(payload) if length is None else length)
    return bytes(image) + b"\xcc" * offset + payload + b"trailer"
