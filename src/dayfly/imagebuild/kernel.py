"""Converts a distribution's kernel to what QEMU boots directly: an uncompressed ELF file with a PVH entry."""

from __future__ import annotations

import lzma
import os
import re
import struct
import zlib
from collections.abc import Callable

from dayfly import process
from dayfly.errors import Refused

_LIMIT = 512 * 1024**2
_HEADER = struct.Struct("<I")
_SETUP_SECTORS, _MAGIC, _VERSION, _PAYLOAD_OFFSET, _PAYLOAD_LENGTH = 0x1F1, 0x202, 0x206, 0x248, 0x24C
_LEAST_VERSION = 0x0208
_PT_NOTE = 4
_XEN_PHYS32_ENTRY = 18
_RELEASE = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._+~-]{0,127}")


Run = Callable[[list[str], int, int], object]
"""Runs a program with these descriptors as its stdin and stdout. Raises `ProgramFailed`."""


def _run(command: list[str], stdin: int, stdout: int) -> None:
    process.run(command, stdin=stdin, stdout=stdout)


def vmlinux(image: bytes, run: Run = _run) -> bytes:
    """The ELF kernel in a bzImage (or the ELF file itself). Raises `Refused` if QEMU cannot boot it directly."""
    content = image if image.startswith(b"\x7fELF") else _unpacked(_payload(image), run)
    if not has_pvh_entry(content):
        raise Refused("the kernel has no PVH entry", "it must be built with CONFIG_PVH, as Debian's and Ubuntu's are")
    return content


def release(image: bytes) -> str:
    """The release that `uname -r` prints, from a bzImage's header."""
    (offset,) = struct.unpack_from("<H", image, 0x20E) if len(image) > 0x210 else (0,)
    match = _RELEASE.match(image, offset + 0x200) if offset else None
    if match is None:
        raise Refused("the kernel has no version in its header")
    return match[0].decode()


def _payload(image: bytes) -> bytes:
    if len(image) < 0x250 or image[_MAGIC : _MAGIC + 4] != b"HdrS":
        raise Refused("the kernel is neither a bzImage nor an ELF file")
    (version,) = struct.unpack_from("<H", image, _VERSION)
    if version < _LEAST_VERSION:
        raise Refused(f"the kernel's boot protocol {version >> 8}.{version & 255:02} is older than 2.08")
    (offset,), (length,) = _HEADER.unpack_from(image, _PAYLOAD_OFFSET), _HEADER.unpack_from(image, _PAYLOAD_LENGTH)
    start = (1 + (image[_SETUP_SECTORS] or 4)) * 512 + offset
    if not length or start + length > len(image):
        raise Refused("the kernel's header points outside of its file")
    return image[start : start + length]


def _unpacked(payload: bytes, run: Run) -> bytes:
    """Unpack by magic number. The last four bytes of a payload may be its unpacked size, for the kernel's own unpacker."""
    try:
        if payload.startswith(b"\x1f\x8b"):
            return zlib.decompressobj(31).decompress(payload, _LIMIT)
        if payload.startswith(b"\xfd7zXZ\0"):
            return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LIMIT).decompress(payload, _LIMIT)
        if payload.startswith(b"\x5d\0\0"):
            return lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_LIMIT).decompress(payload, _LIMIT)
    except (zlib.error, lzma.LZMAError) as error:
        raise Refused(f"the kernel cannot be unpacked: {error}") from error
    if payload.startswith(b"\x28\xb5\x2f\xfd"):
        return filtered(["zstd", "--decompress", "--stdout", "--quiet"], payload[:-4], run)
    if payload.startswith(b"\x02\x21\x4c\x18"):
        return filtered(["lz4", "-d", "-c", "-q"], payload[:-4], run)
    if payload.startswith(b"\x7fELF"):
        return payload
    raise Refused(f"the kernel's compression is unknown: it begins with {payload[:6].hex()}")


def filtered(command: list[str], content: bytes, run: Run = _run) -> bytes:
    """A program's output for this input, at most `_LIMIT` bytes. Raises `ProgramMissing` or `ProgramFailed`."""
    source = os.memfd_create("input", os.MFD_CLOEXEC)
    target = os.memfd_create("output", os.MFD_CLOEXEC)
    with os.fdopen(source, "r+b") as before, os.fdopen(target, "r+b") as after:
        before.write(content)
        before.seek(0)
        process.find(command[0])
        run(["prlimit", f"--fsize={_LIMIT}", "--", *command], source, target)
        after.seek(0)
        return after.read(_LIMIT)


def has_pvh_entry(elf: bytes) -> bool:
    """Whether an ELF file has the note that names its entry point for a direct boot."""
    if len(elf) < 64 or elf[:6] != b"\x7fELF\x02\x01":
        return False
    (table,), (size, count) = struct.unpack_from("<Q", elf, 32), struct.unpack_from("<HH", elf, 54)
    for number in range(count):
        place = table + number * size
        if size < 56 or place + size > len(elf):
            return False
        (kind,) = _HEADER.unpack_from(elf, place)
        (offset,), (length,) = struct.unpack_from("<Q", elf, place + 8), struct.unpack_from("<Q", elf, place + 32)
        if kind == _PT_NOTE and _has_note(elf[offset : offset + length]):
            return True
    return False


def _has_note(notes: bytes) -> bool:
    place = 0
    while place + 12 <= len(notes):
        name, length, kind = struct.unpack_from("<III", notes, place)
        if kind == _XEN_PHYS32_ENTRY and notes[place + 12 : place + 12 + name] == b"Xen\0":
            return True
        place += 12 + (name + 3 & ~3) + (length + 3 & ~3)
    return False
