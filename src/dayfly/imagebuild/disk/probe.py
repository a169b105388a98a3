"""Names the unsupported content of a partition by its first bytes, for messages."""

from __future__ import annotations

import os

from dayfly.imagebuild.disk.partitions import BIOS, LVM, Partition

_MAGICS = (
    (0, b"XFSB", "xfs"),
    (0x10040, b"_BHRfS_M", "btrfs"),
    (0x200, b"LABELONE", "LVM"),
    (0, b"LUKS\xba\xbe", "LUKS"),
    (1080, b"\x53\xef", "ext"),
    (0xFF6, b"SWAPSPACE2", "swap"),
    (0, b"hsqs", "squashfs"),
    (0x36, b"FAT", "FAT"),
    (0x52, b"FAT32", "FAT"),
    (3, b"NTFS", "NTFS"),
)
_TYPES = {LVM: "LVM", BIOS: "a boot loader"}


def name_of(file: int, partition: Partition) -> str:
    """The filesystem's name, if it is known."""
    for offset, magic, name in _MAGICS:
        if os.pread(file, len(magic), partition.start + offset) == magic:
            return name
    return _TYPES.get(partition.type, "something unknown")
