"""How an image becomes a machine: its configuration, and the open files that it is made of.

On the way to every job's start: nothing heavy is imported here.
"""

from __future__ import annotations

import os
from pathlib import Path

from dayfly import files
from dayfly.errors import DayflyError, Refused
from dayfly.guest.boot import BootMode
from dayfly.image.library import OpenImage
from dayfly.machine import scratch
from dayfly.machine.config import Disk, MachineConfig, Network, Processor, Shape, Share
from dayfly.machine.driver import Driver
from dayfly.machine.qemu import Launched, Qemu
from dayfly.machine.resources import DiskFile, OpenResources
from dayfly.settings import Settings
from dayfly.values import dataclass

AGENT_ARCHIVE = Path(__file__).parent.parent / "guest/agent.cpio"
"""The guest agent as the first part of an initramfs. Made when Dayfly is installed (hatch_build.py)."""

USER_NETWORK = "10.0.2.15/24 10.0.2.2 10.0.2.3"
"""Address, gateway and name server of QEMU's user-mode network (QEMU's documentation, "Network emulation")."""


@dataclass(frozen=True)
class Plan:
    """A machine to be made of an open image, with `scratch` bytes to write to.

    Into a `guarded` one comes nothing that the user could have altered: no file of the user's own caches.
    """

    image: OpenImage
    config: MachineConfig
    scratch: int
    guarded: bool = False


def boot_mode(image: OpenImage, wanted: BootMode | None) -> BootMode:
    """How a machine of this image boots. Raises `Refused` where it cannot boot as is wanted."""
    own = image.config.boot
    if own.by_firmware and wanted is not None:
        raise Refused(f"{image.name or image.digest} is a whole disk, and boots by {own}", "leave --boot out")
    return wanted or own


def configuration(
    image: OpenImage,
    *,
    identity: str,
    processor: Processor,
    shape: Shape,
    boot: BootMode,
    shares: tuple[Share, ...],
    network: Network,
) -> MachineConfig:
    """The configuration of a machine of this image."""
    return MachineConfig(
        identity=identity,
        label=image.name or image.digest[:19],
        accelerator=processor.accelerator,
        cpu=processor.cpu,
        shape=shape,
        boot=boot,
        command_line=image.config.kernel.command_line,
        disks=_disks(image, boot),
        shares=shares,
        network=network,
        mac=mac(identity),
    )


def _disks(image: OpenImage, boot: BootMode) -> tuple[Disk, ...]:
    if boot.by_firmware:
        return (Disk("root", image.root.form, readonly=False, overlay=True), Disk("seed", "iso9660", readonly=True))
    modules = (Disk("modules", image.modules.form, readonly=True),) if image.modules else ()
    root, own = Disk("root", image.root.form, readonly=True), Disk("scratch", scratch.FILESYSTEM, readonly=False)
    return (root, *modules, own)


def driver(settings: Settings) -> Driver:
    """What starts machines on this host."""
    return Qemu(settings.machine_qemu)


def start_cold(plan: Plan, settings: Settings) -> Launched:
    """Start a machine that boots. Raises `DayflyError` where the host lacks what it needs."""
    with open_cold(plan, settings) as resources:
        return driver(settings).start(plan.config, resources)


def open_cold(plan: Plan, settings: Settings) -> OpenResources:
    """The files of a machine that boots, with an empty scratch disk.

    That of a guarded machine is formatted for it: the cache is the user's.
    Raises `DayflyError` where the host lacks what it needs.
    """
    image = plan.image
    if image.kernel is None:
        from dayfly.provision import firmware  # noqa: PLC0415 (few images are disks)

        return firmware.open_cold(plan, settings)
    cache = None if plan.guarded else settings.cache_folder
    disks = open_disks(image, scratch.create(settings.scratch_folder, plan.scratch, cache))
    return OpenResources(disks, kernel=os.dup(image.kernel.file), initramfs=_initramfs(image))


def open_disks(image: OpenImage, writable: int) -> tuple[DiskFile, ...]:
    """The disks of a machine that boots from a kernel: the image's, and the descriptor `writable` as the scratch disk."""
    layers = (image.root, image.modules) if image.modules else (image.root,)
    return (*(DiskFile(os.dup(layer.file)) for layer in layers), DiskFile(writable))


def _initramfs(image: OpenImage) -> int:
    """The agent of this Dayfly and the boot modules of this image, one after the other as the kernel accepts them, in memory."""
    descriptor = os.memfd_create("initramfs", os.MFD_CLOEXEC)
    try:
        with AGENT_ARCHIVE.open("rb") as agent:
            files.copy_range(agent.fileno(), descriptor, 0, os.fstat(agent.fileno()).st_size)
    except FileNotFoundError:
        raise no_agent() from None
    if image.boot_modules:
        files.copy_range(image.boot_modules.file, descriptor, 0, image.boot_modules.size)
    return descriptor


def no_agent() -> DayflyError:
    """What is said where Dayfly was installed without its guest agent."""
    return DayflyError("this installation of Dayfly has no guest agent", "install it by pip, which builds it")


def mac(name: str) -> str:
    """A MAC address in the range of locally administered ones, from the machine's name."""
    return ":".join(["52", "54", *(name[at : at + 2] for at in range(0, 8, 2))])
