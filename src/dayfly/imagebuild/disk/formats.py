"""Which format a disk image has, by its first bytes, and whether it is all of its disk: nothing in it may lead to another file.

qemu-img follows what an image names: backing files, data files, extents, parents. So this is read, and refused, before
qemu-img sees the file, and then qemu-img is told the format. Pure, but for reading an open file.

Formats: QEMU's docs/interop/qcow2.txt; VMware's "Virtual Disk Format 5.0"; VirtualBox's VDICore.h, and QEMU's block/vmdk.c and
block/vdi.c for what they follow.
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
_KNOWN = "qcow2, raw, vmdk, vdi and ova are known; `qemu-img convert` makes one of many others"


class Format(StrEnum):
    """A format of disk images, by QEMU's name of it; `OVA` is an archive with one in it."""

    RAW = "raw"
    QCOW2 = "qcow2"
    VMDK = "vmdk"
    VDI = "vdi"
    OVA = "ova"


@dataclass(frozen=True)
class Recognised:
    """What a file is, and how large the disk is that it holds, in bytes (0 for an archive)."""

    form: Format
    size: int


def recognise(file: int, what: str) -> Recognised:
    """Look at an open file. Raises `Refused` for what is no disk image, or not all of one."""
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
    raise Refused(f"{what} is no disk image of a format known", _KNOWN)


def _refuse_others(file: int, first: bytes, length: int, what: str) -> None:
    """What is known, and not read."""
    if first.startswith(_VMDK_TEXT):
        raise Refused(f"{what} is the description of a disk that is in other files", "only a vmdk that is one file can be read")
    for magic, name in _PACKED.items():
        if first.startswith(magic):
            raise Refused(f"{what} is packed by {name}", "unpack it first")
    for magic, name in _OTHERS.items():
        if first.startswith(magic) or (name == "VHD" and os.pread(file, 8, max(length - SECTOR, 0)) == magic):
            raise Refused(f"{what} is a disk image of the format {name}", _KNOWN)
    if os.pread(file, 5, 0x8001) == b"CD001":
        raise Refused(f"{what} is the image of a CD, not of a disk", "take the disk image that the distribution makes for clouds")


_VMDK_FIELDS = "<IIQQQQIQQQ"
"""Version, flags, capacity, grain, descriptor's place and size, entries of a table, two directories, overhead: in sectors."""
_GD_AT_END = 2**64 - 1
_DESCRIPTOR_LIMIT = 64 * 1024
_QEMU_DESCRIPTOR = (0x200, 20 * SECTOR)
"""Where QEMU looks for a parent's name, whatever the header says."""
_CREATE_TYPE = re.compile(rb'^\s*createType\s*=\s*"([^"\r\n]*)"', re.MULTILINE | re.IGNORECASE)
_EXTENT = re.compile(rb"^\s*(?:RW|RDONLY|NOACCESS)\s+\d+\s+(\S+)", re.MULTILINE | re.IGNORECASE)
_PARENT = re.compile(rb"parentFileNameHint", re.IGNORECASE)
_PARENT_ID = re.compile(rb"^\s*parentCID\s*=\s*([0-9a-fA-F]+)", re.MULTILINE | re.IGNORECASE)


def _vmdk(file: int, length: int, what: str) -> int:
    version, _, capacity, _, place, sectors, _, _, directory, _ = unpack(_VMDK_FIELDS, os.pread(file, SECTOR, 0), 4, what)
    if version not in (1, 2, 3):
        raise Refused(f"{what} is a vmdk of version {version}, which is not known")
    if capacity == 0:  # then QEMU takes what follows for a description of other files
        raise Refused(f"{what} is the description of a disk that is in other files", "only a vmdk that is one file can be read")
    if directory == _GD_AT_END:
        footer = os.pread(file, SECTOR, max(length - 2 * SECTOR, 0))
        if not footer.startswith(_VMDK) or unpack(_VMDK_FIELDS, footer, 4, what)[2] != capacity:
            raise Refused(f"{what} is damaged, or cut short: it ends without a vmdk's footer")
    if not place or not 0 < sectors * SECTOR <= _DESCRIPTOR_LIMIT:
        raise Refused(f"{what} does not describe itself, as a vmdk that is one file does")
    if place * SECTOR >= length:
        raise Refused(f"{what} is damaged, or cut short: its description is after its end")
    text = os.pread(file, sectors * SECTOR, place * SECTOR)
    _check_description(text.partition(b"\0")[0], what)
    if _PARENT.search(text) or _PARENT.search(os.pread(file, _QEMU_DESCRIPTOR[1], _QEMU_DESCRIPTOR[0])):
        raise Refused(f"{what} is only what differs from another disk image, which it names")
    return capacity * SECTOR


def _check_description(text: bytes, what: str) -> None:
    kind = _CREATE_TYPE.search(text)
    if kind is None or kind[1].lower() not in (b"monolithicsparse", b"streamoptimized"):
        name = shown(kind[1], 40) if kind else "none that it says"
        hint = "monolithicSparse and streamOptimized are known: `qemu-img convert -O vmdk` makes one"
        raise Refused(f"{what} is a vmdk of the kind {name}", hint)
    extents = [found.upper() for found in _EXTENT.findall(text)]
    if extents != [b"SPARSE"]:
        raise Refused(
            f"{what} has parts in other files: it names {len(extents)} extents", "only a vmdk that is one file can be read"
        )
    parent = _PARENT_ID.search(text)
    if parent is not None and int(parent[1], 16) & 0xFFFFFFFF != 0xFFFFFFFF:
        raise Refused(f"{what} is only what differs from another disk image")


_VDI_VERSION = 0x00010001
_VDI_KINDS = (1, 2)
"""Dynamic and static. Others differ from a parent."""


def _vdi(header: bytes, length: int, what: str) -> int:
    version, _, kind = unpack("<III", header, _VDI_AT + 4, what)
    (start,), (size, block, _, _, used) = unpack("<I", header, 0x158, what), unpack("<QIIII", header, 0x170, what)
    if version != _VDI_VERSION:
        raise Refused(f"{what} is a vdi of version {version >> 16}.{version & 0xFFFF}, and 1.1 is known")
    parents = header[0x1A8:0x1C8]
    if kind not in _VDI_KINDS or len(parents) != 32 or any(parents):
        raise Refused(
            f"{what} is only what differs from another disk image", "`VBoxManage clonemedium` makes one that stands alone"
        )
    if start + used * block > length:
        raise Refused(f"{what} is damaged, or cut short: it has not all of its {used} blocks")
    return size
