"""A job made ready: what it shares, where it starts, its image open and locked; and the machine spawned for it.

On the way to every job's start: nothing heavy is imported here.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from dayfly import files, inherited, process
from dayfly.errors import DayflyError, Refused
from dayfly.image.library import OpenImage
from dayfly.image.manifest import ImageConfig
from dayfly.job.description import Folder, JobDescription, check_listable, check_shape, hides_image, leads_to, mounts
from dayfly.machine import scratch
from dayfly.machine.launch import Launched, launch
from dayfly.machine.spec import Boot, Disk, Link, MachineSpec, Network, Shape, Share, Way
from dayfly.settings import Settings
from dayfly.values import dataclass, replace

AGENT_ARCHIVE = Path(__file__).parent.parent / "machine/guest/agent.cpio"
"""The guest agent as the first part of an initramfs. Made when Dayfly is installed (hatch_build.py)."""


@dataclass(frozen=True)
class Prepared:
    """A job that is ready to be given a machine. `begun` is on the monotonic clock, `begun_at` since the epoch, in seconds."""

    description: JobDescription
    image: OpenImage
    command: tuple[str, ...]
    identity: str
    boot: Boot
    terminal: bool
    shares: tuple[Share, ...]
    links: tuple[Link, ...]
    directory: str
    limits: tuple[tuple[int, int], ...]
    signals: tuple[int, int]
    begun: float
    begun_at: float


def prepare(description: JobDescription, image: OpenImage, begun: float) -> Prepared:
    """Check and complete what the description leaves open. Raises `DayflyError`."""
    check_shape(description.shape, description.scratch)
    boot = boot_of(image, description.boot)
    if boot.by_firmware and description.capture is not None:
        name = image.name or image.digest
        raise Refused(f"{name} is a whole disk, whose machines cannot be saved", "images with a kernel of their own can be")
    shares, links, directory = _folders(description, image.config)
    return Prepared(
        description=description,
        image=image,
        command=_command(description, image),
        identity=os.urandom(5).hex(),
        boot=boot,
        terminal=_terminal(description),
        shares=shares,
        links=links,
        directory=directory,
        limits=process.limits(),
        signals=inherited.signals(),
        begun=begun,
        begun_at=time.time() - (time.monotonic() - begun),
    )


def boot_of(image: OpenImage, wanted: Boot | None) -> Boot:
    """How a machine of this image boots. Raises `Refused` where it cannot boot as is wanted."""
    own = Boot(image.config.boot)
    if own.by_firmware and wanted is not None:
        raise Refused(f"{image.name or image.digest} is a whole disk, and boots by {own}", "leave --boot out")
    return wanted or own


def plan(
    image: OpenImage,
    *,
    identity: str,
    way: Way,
    shape: Shape,
    boot: Boot,
    shares: tuple[Share, ...],
    network: Network,
) -> MachineSpec:
    """A machine of this image, with nothing of it open yet: every descriptor is -1."""
    disks = [Disk("root", -1, image.root.form, readonly=not boot.by_firmware)]
    disks += [Disk("modules", -1, image.modules.form, readonly=True)] if image.modules else []
    disks += [Disk("scratch", -1, scratch.FILESYSTEM, readonly=False)] if not boot.by_firmware else []
    return MachineSpec(
        identity=identity,
        label=image.name or image.digest[:19],
        accelerator=way.accelerator,
        cpu=way.cpu,
        shape=shape,
        boot=boot,
        kernel=-1,
        initramfs=-1,
        command_line=image.config.kernel.command_line,
        disks=tuple(disks),
        shares=shares,
        network=network,
        mac=mac(identity),
    )


def planned_for(prepared: Prepared, way: Way) -> MachineSpec:
    """The job's machine, as `plan` has it."""
    description = prepared.description
    return plan(
        prepared.image,
        identity=prepared.identity,
        way=way,
        shape=description.shape,
        boot=prepared.boot,
        shares=prepared.shares,
        network=description.network,
    )


def opened(planned: MachineSpec, image: OpenImage, writable: int) -> MachineSpec:
    """The plan with its disks open: the image's, and `writable` as the scratch disk."""
    files_of = {"root": image.root.file, "modules": image.modules.file if image.modules else -1}
    disks = [
        replace(disk, descriptor=writable if disk.role == "scratch" else os.dup(files_of[disk.role])) for disk in planned.disks
    ]
    return replace(planned, disks=tuple(disks))


def booting(planned: MachineSpec, image: OpenImage, settings: Settings, size: int, *, guarded: bool = False) -> MachineSpec:
    """The plan of a machine that boots, all of it open, with an empty scratch disk of `size` bytes.

    That of a `guarded` machine is formatted for it: the cache is the user's.
    Raises `DayflyError` where the host lacks what it needs.
    """
    if image.kernel is None:
        from dayfly.job import firmware  # noqa: PLC0415 (few images are disks)

        return firmware.booting(planned, image, settings, size)
    spec = opened(planned, image, scratch.create(settings.scratch_folder, size, None if guarded else settings.cache_folder))
    return replace(spec, kernel=os.dup(image.kernel.file), initramfs=_initramfs(image))


def spawn(prepared: Prepared, settings: Settings, planned: MachineSpec) -> Launched:
    """Spawn a machine that boots. Raises `DayflyError` where the host lacks what it needs."""
    description = prepared.description
    spec = booting(planned, prepared.image, settings, description.scratch, guarded=description.guarded)
    return launch(settings.machine_qemu, spec)


def _initramfs(image: OpenImage) -> int:
    """The agent of this Dayfly and the boot modules of this image, one after the other as the kernel accepts them, in memory."""
    descriptor = os.memfd_create("initramfs", os.MFD_CLOEXEC)
    try:
        with AGENT_ARCHIVE.open("rb") as agent:
            files.copy_range(agent.fileno(), descriptor, 0, os.fstat(agent.fileno()).st_size)
    except FileNotFoundError:
        raise DayflyError("this installation of Dayfly has no guest agent", "install it by pip, which builds it") from None
    if image.boot_modules:
        files.copy_range(image.boot_modules.file, descriptor, 0, image.boot_modules.size)
    return descriptor


def mac(name: str) -> str:
    """A MAC address in the range of locally administered ones, from the machine's name."""
    return ":".join(["52", "54", *(name[at : at + 2] for at in range(0, 8, 2))])


def _terminal(description: JobDescription) -> bool:
    there_is_one = os.isatty(0) and os.isatty(1)
    if description.terminal and not there_is_one:
        raise DayflyError("-t needs a terminal, and stdin or stdout is none", "leave -t out when streams are redirected")
    return there_is_one if description.terminal is None else description.terminal


def _command(description: JobDescription, image: OpenImage) -> tuple[str, ...]:
    """What is run: what the job says, all of it, or else the image's own."""
    command = description.command or (*image.config.entrypoint, *image.config.command)
    if not command:
        hint = "write it after --: dayfly run IMAGE [options] -- COMMAND [ARGUMENT ...]"
        raise Refused(f"no command was given, and {description.image} has none of its own", hint)
    return command


def _folders(description: JobDescription, config: ImageConfig) -> tuple[tuple[Share, ...], tuple[Link, ...], str]:
    """What the machine shares, the links to it, and the directory that the job starts in.

    The image's own command starts in the image's own directory; any other does so only where the caller's is not shared.
    """
    wanted, callers_own = description.share_directory, Folder(description.directory)
    shared = wanted and not hides_image(leads_to(callers_own)[0].path)
    if wanted and not shared:
        process.warn(f"the working directory {description.directory} is not shared: it would hide the image's own")
    own = (callers_own,) if shared else ()
    callers = leads_to(callers_own)[0].path if shared else ""
    choice = (callers, config.directory) if description.command else (config.directory, callers)
    shares, links = mounts((*own, *description.shares))
    check_listable(shares)
    return shares, links, description.workdir or choice[0] or choice[1] or _home(description)


def _home(description: JobDescription) -> str:
    from dayfly.job import identity  # noqa: PLC0415 (jobs in a shared directory do without it)

    return "/root" if description.root else identity.home()
