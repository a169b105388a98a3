"""Cold machines: their open files, and their start. On the hot path of every job."""

from __future__ import annotations

import os

from dayfly import files
from dayfly.image.library import OpenImage
from dayfly.machine import scratch
from dayfly.machine.driver import Driver
from dayfly.machine.qemu import Launched, Qemu
from dayfly.machine.resources import DiskFile, OpenResources
from dayfly.provision.agent import AGENT_ARCHIVE, no_agent
from dayfly.provision.plan import Plan
from dayfly.settings import Settings


def driver(settings: Settings) -> Driver:
    """The driver that starts machines on this host."""
    return Qemu(settings.machine_qemu)


def start_cold(plan: Plan, settings: Settings) -> Launched:
    """Start a machine that boots. Raises `DayflyError` if the host lacks something that it needs."""
    with open_cold(plan, settings) as resources:
        return driver(settings).start(plan.config, resources)


def open_cold(plan: Plan, settings: Settings) -> OpenResources:
    """The files of a machine that boots, with an empty scratch disk.

    For a guarded machine the disk is formatted anew: the cache of formatted disks belongs to the user.
    Raises `DayflyError` if the host lacks something that it needs.
    """
    image = plan.image
    if image.kernel is None:
        from dayfly.provision import firmware  # noqa: PLC0415 (few images are disks)

        return firmware.open_cold(plan, settings)
    cache = None if plan.guarded else settings.cache_folder
    disks = open_disks(image, scratch.create(settings.scratch_folder, plan.scratch, cache))
    return OpenResources(disks, kernel=os.dup(image.kernel.file), initramfs=_initramfs(image))


def open_disks(image: OpenImage, writable: int) -> tuple[DiskFile, ...]:
    """The disks of a machine that boots a kernel directly: the image's, and the descriptor `writable` as the scratch disk."""
    layers = (image.root, image.modules) if image.modules else (image.root,)
    return (*(DiskFile(os.dup(layer.file)) for layer in layers), DiskFile(writable))


def _initramfs(image: OpenImage) -> int:
    """The agent of this Dayfly and the boot modules of this image, concatenated, as the kernel accepts them, in memory."""
    descriptor = os.memfd_create("initramfs", os.MFD_CLOEXEC)
    try:
        with AGENT_ARCHIVE.open("rb") as agent:
            files.copy_range(agent.fileno(), descriptor, 0, os.fstat(agent.fileno()).st_size)
    except FileNotFoundError:
        raise no_agent() from None
    if image.boot_modules:
        files.copy_range(image.boot_modules.file, descriptor, 0, image.boot_modules.size)
    return descriptor
