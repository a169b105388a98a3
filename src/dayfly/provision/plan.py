"""How an image becomes a machine's configuration.

On the hot path of every job: nothing heavy is imported here.
"""

from __future__ import annotations

from dayfly.errors import Refused
from dayfly.guest.boot import BootMode
from dayfly.image.library import OpenImage
from dayfly.machine import scratch
from dayfly.machine.config import Disk, MachineConfig, Network, Processor, Shape, Share
from dayfly.process import Lifetime
from dayfly.values import dataclass

USER_NETWORK = "10.0.2.15/24 10.0.2.2 10.0.2.3"
"""Address, gateway and name server of QEMU's user-mode network (QEMU's documentation, "Network emulation")."""


@dataclass(frozen=True)
class Plan:
    """A machine to be made from an open image, with `scratch` bytes to write to.

    A `guarded` one uses nothing that the user could have altered: no file of the user's own caches.
    """

    image: OpenImage
    config: MachineConfig
    scratch: int
    guarded: bool = False


def boot_mode(image: OpenImage, wanted: BootMode | None) -> BootMode:
    """The boot mode of a machine of this image. Raises `Refused` if it cannot boot as requested."""
    own = image.config.boot
    if own.by_firmware and wanted is not None:
        raise Refused(f"{image.name or image.digest} is a whole disk, which boots by {own}", "remove --boot")
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
    lifetime: Lifetime = Lifetime.OWNED,
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
        lifetime=lifetime,
    )


def _disks(image: OpenImage, boot: BootMode) -> tuple[Disk, ...]:
    if boot.by_firmware:
        return (Disk("root", image.root.form, readonly=False, overlay=True), Disk("seed", "iso9660", readonly=True))
    modules = (Disk("modules", image.modules.form, readonly=True),) if image.modules else ()
    root, own = Disk("root", image.root.form, readonly=True), Disk("scratch", scratch.FILESYSTEM, readonly=False)
    return (root, *modules, own)


def mac(name: str) -> str:
    """A locally administered MAC address, derived from the machine's name."""
    return ":".join(["52", "54", *(name[at : at + 2] for at in range(0, 8, 2))])
