"""A machine that firmware boots from a whole disk: what it writes goes into a layer of its own, and a CD brings the agent."""

from __future__ import annotations

import os

from dayfly import files, process
from dayfly.errors import DayflyError
from dayfly.image import qcow2
from dayfly.image.library import OpenImage
from dayfly.job.prepare import AGENT_ARCHIVE
from dayfly.machine import scratch
from dayfly.machine.command import EFI_FIRMWARE
from dayfly.machine.guest.initramfs import member
from dayfly.machine.guest.seed import seed
from dayfly.machine.spec import Boot, Disk, MachineSpec
from dayfly.settings import Settings
from dayfly.values import replace


def booting(planned: MachineSpec, image: OpenImage, settings: Settings, size: int) -> MachineSpec:
    """The plan of a machine, all of it open. Its disk is larger than the image's by `size` bytes.

    Raises `DayflyError` where the host lacks what it needs.
    """
    if planned.boot is Boot.EFI and not os.path.exists(EFI_FIRMWARE):  # noqa: PTH110 (as elsewhere on the way to a job's start)
        raise DayflyError(f"the disk needs UEFI to boot, and there is no {EFI_FIRMWARE}", "install the package ovmf")
    process.find("qemu-img", "qemu-utils")
    own = qcow2.size(image.root.file, f"the disk of {image.name or image.digest}")  # whoever made it: QEMU would follow it
    disk = Disk("root", scratch.overlay(settings.scratch_folder, own + size), image.root.form, readonly=False)
    return replace(planned, disks=(replace(disk, base=os.dup(image.root.file)), _seed(planned.identity)))


def _seed(identity: str) -> Disk:
    try:
        agent = member(AGENT_ARCHIVE.read_bytes(), "init")
    except FileNotFoundError:
        raise DayflyError("this installation of Dayfly has no guest agent", "install it by pip, which builds it") from None
    descriptor = os.memfd_create("seed", os.MFD_CLOEXEC)
    files.write_all(descriptor, seed(agent, identity))
    return Disk("seed", descriptor, "iso9660", readonly=True)
