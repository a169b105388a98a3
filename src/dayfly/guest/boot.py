"""What is init in a guest."""

from __future__ import annotations

from enum import StrEnum


class BootMode(StrEnum):
    """What is init: the agent (fastest), or the image's own init, with the agent as one of its services.

    Or firmware boots a whole disk, whose cloud-init starts the agent.
    """

    AGENT = "agent"
    SYSTEM = "system"
    BIOS = "bios"
    EFI = "efi"

    @property
    def by_firmware(self) -> bool:
        """Whether firmware boots a disk with its own boot loader, without a kernel and initramfs from Dayfly."""
        return self in (BootMode.BIOS, BootMode.EFI)
