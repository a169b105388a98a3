"""Who is init in a guest."""

from __future__ import annotations

from enum import StrEnum


class BootMode(StrEnum):
    """Who is init: the agent (fastest), or the image's own system with the agent as a service of it.

    Or firmware boots a whole disk, whose cloud-init starts the agent.
    """

    AGENT = "agent"
    SYSTEM = "system"
    BIOS = "bios"
    EFI = "efi"

    @property
    def by_firmware(self) -> bool:
        """Whether there is a disk with a boot loader on it, and neither kernel nor initramfs of Dayfly's."""
        return self in (BootMode.BIOS, BootMode.EFI)
