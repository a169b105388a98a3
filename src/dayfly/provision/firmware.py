"""A machine that firmware boots from a whole disk: its writes go to an overlay, and the agent is on a CD."""

from __future__ import annotations

import os

from dayfly import files, process
from dayfly.errors import DayflyError
from dayfly.guest.boot import BootMode
from dayfly.guest.initramfs import member
from dayfly.guest.seed import seed
from dayfly.image import qcow2
from dayfly.machine import scratch
from dayfly.machine.command import EFI_FIRMWARE
from dayfly.machine.resources import DiskFile, OpenResources
from dayfly.provision.agent import AGENT_ARCHIVE, no_agent
from dayfly.provision.plan import Plan
from dayfly.settings import Settings


def open_cold(plan: Plan, settings: Settings) -> OpenResources:
    """The open files of such a machine. Its disk is larger than the image's by the scratch size.

    Raises `DayflyError` if the host lacks something that it needs.
    """
    if plan.config.boot is BootMode.EFI and not os.path.exists(EFI_FIRMWARE):  # noqa: PTH110 (hot path)
        raise DayflyError(f"the disk needs UEFI to boot, but there is no {EFI_FIRMWARE}", "install the package ovmf")
    process.find("qemu-img", "qemu-utils")
    image = plan.image
    own = qcow2.size(image.root.file, f"the disk of {image.name or image.digest}")  # QEMU would open any file that it names
    overlay = scratch.overlay(settings.scratch_folder, own + plan.scratch)
    return OpenResources((DiskFile(overlay, base=os.dup(image.root.file)), DiskFile(_seed(plan.config.identity))))


def _seed(identity: str) -> int:
    try:
        agent = member(AGENT_ARCHIVE.read_bytes(), "init")
    except FileNotFoundError:
        raise no_agent() from None
    descriptor = os.memfd_create("seed", os.MFD_CLOEXEC)
    files.write_all(descriptor, seed(agent, identity))
    return descriptor
