"""Recognises the format of a disk image by its first bytes, and refuses an image that needs other files.

qemu-img opens the files that an image names: backing files, data files, extents, parents. So the headers are checked before
qemu-img sees the file, and then the format is given to qemu-img. Pure, except for reading an open file.

Formats: QEMU's docs/interop/qcow2.txt; VMware's "Virtual Disk Format 5.0"; VirtualBox's VDICore.h; and QEMU's block/vmdk.c and
block/vdi.c for which files they open.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from enum import StrEnum

from dayfly.errors import Refused
from dayfly.image import qcow2
from dayfly.image.inspection.texts import shown
from dayfly.image.qcow2 import unpack

SECTOR = 512
_VMDK, _VMDK_TEXT = b"KDMV", b"# Disk DescriptorFile"
_VDI_AT, _VDI = 0x40, b"\x7f\x10\xda\xbe"
_PACKED = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"PK\x03\x04": "zip"}
_OTHERS = {b"conectix": "VHD", b"vhdxfile": "VHDX", b"QED\0": "QED", b"COWD": "VMware ESX", b"LUKS\xba\xbe": "LUKS"}
_KNOWN = "supported are qcow2, raw, vmdk, vdi and ova; `qemu-img convert` converts many others"


class Format(StrEnum):
    """A format of disk images, by QEMU's name; `OVA` is an archive with a disk image in it."""

    RAW = "raw"
    QCOW2 = "qcow2"
    VMDK = "vmdk"
    VDI = "vdi"
    OVA = "ova"


@dataclass(frozen=True)
class Recognised:
    """A file's format, and the size of its disk in bytes (0 for an archive)."""

    form: Format
    size: int


def recognise(file: int, what: str) -> Recognised:
    """Recognise an open file. Raises `Refused` if it is not a disk image, or not a complete one."""
    length = os.fstat(file).st_size
    first = os.pread(file, 1024, 0)
    if first.startswith(qcow2.MAGIC):
        return Recognised(Format.QCOW2, qcow2.size(file, what))
    if first.startswith(_VMDK):
        return Recognised(Format.VMDK, _vmdk(file, length, what))
    if first[_VDI_AT : _VDI_AT + 4] == _VDI:
        return Recognised(Format.VDI, _vdi(first, length, what))
    _refuse_others(file, first, length, what)
    if first[257:262] == b"ustar":
        return Recognised(Format.OVA, 0)
    if first[510:512] == b"\x55\xaa" or os.pread(file, 2, 1024 + 56) == b"\x53\xef":
        return Recognised(Format.RAW, length - length % SECTOR)
    raise Refused(f"{what} is not a disk image of a supported format", _KNOWN)


def _refuse_others(file: int, first: bytes, length: int, what: str) -> None:
    """Raise `Refused` for known formats that are not supported."""
    if first.startswith(_VMDK_TEXT):
        raise Refused(f"{what} describes a disk that is in other files", "only a vmdk in a single file is supported")
    for magic, name in _PACKED.items():
        if first.startswith(magic):
            raise Refused(f"{what} is compressed with {name}", "decompress it first")
    for magic, name in _OTHERS.items():
        if first.startswith(magic) or (name == "VHD" and os.pread(file, 8, max(length - SECTOR, 0)) == magic):
            raise Refused(f"{what} is a disk image of the format {name}", _KNOWN)
    if os.pread(file, 5, 0x8001) == b"CD001":
        raise Refused(f"{what} is a CD image, not a disk image", "use the distribution's cloud image")


_VMDK_FIELDS = "<IIQQQQIQQQ"
"""Version, flags, capacity, grain, descriptor's place and size, entries of a table, two directories, overhead: in sectors."""
_GD_AT_END = 2**64 - 1
_DESCRIPTOR_LIMIT = 64 * 1024
_QEMU_DESCRIPTOR = (0x200, 20 * SECTOR)
"""Where QEMU looks for a parent's name, regardless of the header."""
_CREATE_TYPE = re.compile(rb'^\s*createType\s*=\s*"([^"\r\n]*)"', re.MULTILINE | re.IGNORECASE)
_EXTENT = re.compile(rb"^\s*(?:RW|RDONLY|NOACCESS)\s+\d+\s+(\S+)", re.MULTILINE | re.IGNORECASE)
_PARENT = re.compile(rb"parentFileNameHint", re.IGNORECASE)
_PARENT_ID = re.compile(rb"^\s*parentCID\s*=\s*([0-9a-fA-F]+)", re.MULTILINE | re.IGNORECASE)


def _vmdk(file: int, length: int, what: str) -> int:
    version, _, capacity, _, place, sectors, _, _, directory, _ = unpack(_VMDK_FIELDS, os.pread(file, SECTOR, 0), 4, what)
    if version not in (1, 2, 3):
        raise Refused(f"{what} is a vmdk of version {version}, which is not supported")
    if capacity == 0:  # then QEMU takes the rest for a description of other files
        raise Refused(f"{what} describes a disk that is in other files", "only a vmdk in a single file is supported")
    if directory == _GD_AT_END:
        footer = os.pread(file, SECTOR, max(length - 2 * SECTOR, 0))
        if not footer.startswith(_VMDK) or unpack(_VMDK_FIELDS, footer, 4, what)[2] != capacity:
            raise Refused(f"{what} is damaged or truncated: the vmdk's footer is missing")
    if not place or not 0 < sectors * SECTOR <= _DESCRIPTOR_LIMIT:
        raise Refused(f"{what} has no description, as a vmdk in a single file must have")
    if place * SECTOR >= length:
        raise Refused(f"{what} is damaged or truncated: its description is beyond its end")
    text = os.pread(file, sectors * SECTOR, place * SECTOR)
    _check_description(text.partition(b"\0")[0], what)
    if _PARENT.search(text) or _PARENT.search(os.pread(file, _QEMU_DESCRIPTOR[1], _QEMU_DESCRIPTOR[0])):
        raise Refused(f"{what} needs the disk image that it names: it has only the differences from it")
    return capacity * SECTOR


def _check_description(text: bytes, what: str) -> None:
    kind = _CREATE_TYPE.search(text)
    if kind is None or kind[1].lower() not in (b"monolithicsparse", b"streamoptimized"):
        name = shown(kind[1], 40) if kind else "unknown"
        hint = "supported are monolithicSparse and streamOptimized: `qemu-img convert -O vmdk` makes one"
        raise Refused(f"{what} is a vmdk of the type {name}", hint)
    extents = [found.upper() for found in _EXTENT.findall(text)]
    if extents != [b"SPARSE"]:
        raise Refused(
            f"{what} has parts in other files: it names {len(extents)} extents", "only a vmdk in a single file is supported"
        )
    parent = _PARENT_ID.search(text)
    if parent is not None and int(parent[1], 16) & 0xFFFFFFFF != 0xFFFFFFFF:
        raise Refused(f"{what} needs another disk image: it has only the differences from it")


_VDI_VERSION = 0x00010001
_VDI_KINDS = (1, 2)
"""Dynamic and static. Other types need a parent."""


def _vdi(header: bytes, length: int, what: str) -> int:
    version, _, kind = unpack("<III", header, _VDI_AT + 4, what)
    (start,), (size, block, _, _, used) = unpack("<I", header, 0x158, what), unpack("<QIIII", header, 0x170, what)
    if version != _VDI_VERSION:
        raise Refused(f"{what} is a vdi of version {version >> 16}.{version & 0xFFFF}; only 1.1 is supported")
    parents = header[0x1A8:0x1C8]
    if kind not in _VDI_KINDS or len(parents) != 32 or any(parents):
        raise Refused(
            f"{what} needs another disk image: it has only the differences from it", "copy it with `VBoxManage clonemedium`"
        )
    if start + used * block > length:
        raise Refused(f"{what} is damaged or truncated: not all of its {used} blocks are there")
    return size
