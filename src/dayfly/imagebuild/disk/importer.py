"""Imports a disk into a library: the files of its root and a kernel, or the whole disk, to be booted by firmware."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from dayfly import files
from dayfly.errors import Corrupt, Refused
from dayfly.guest.boot import BootMode
from dayfly.image import library as images
from dayfly.image.library import Library
from dayfly.image.manifest import ImageConfig, Kernel, OperatingSystem, Role
from dayfly.image.origin import Origin
from dayfly.image.reference import Name, Reference
from dayfly.image.search import Libraries
from dayfly.image.trust.fetch import fetch
from dayfly.image.work import WorkFolder, sweep, work_folder
from dayfly.imagebuild import filesystem
from dayfly.imagebuild.containerimage import kernels, rootfs
from dayfly.imagebuild.containerimage.tree import Limits
from dayfly.imagebuild.context import BuildContext
from dayfly.imagebuild.disk import convert, ova, partitions, root
from dayfly.imagebuild.disk.formats import Format, Recognised, recognise
from dayfly.imagebuild.disk.partitions import BIOS, EFI, Partition, Table
from dayfly.imagebuild.disk.root import NotReadable, System
from dayfly.imagebuild.disk.source import Checksum, Source
from dayfly.imagebuild.filesystem import Progress
from dayfly.imagebuild.namespace import Namespace, enter
from dayfly.settings import Settings
from dayfly.units import format_size, format_time

_CHUNK = 1024**2
COMMAND_LINE = " ".join(
    (
        # The disk's other filesystems are not there, so nothing must wait for them, nor for a cloud's configuration.
        *("fstab=no", "systemd.gpt_auto=no", "cloud-init=disabled"),
        *("systemd.mask=systemd-networkd-wait-online.service", "systemd.mask=NetworkManager-wait-online.service"),
        # Services that a machine for one job does not need, see the recipe debian:12-system.
        *("systemd.mask=systemd-remount-fs.service", "systemd.mask=getty.target", "systemd.mask=serial-getty@hvc0.service"),
        *("systemd.mask=fstrim.timer", "systemd.mask=apt-daily.timer", "systemd.mask=apt-daily-upgrade.timer"),
        *("systemd.mask=e2scrub_reap.service", "systemd.mask=systemd-random-seed.service"),
        *("systemd.mask=systemd-journal-flush.service", "systemd.mask=systemd-update-utmp.service"),
    )
)
"""The kernel command line for a disk's own system."""


@dataclass(frozen=True)
class ImportOptions:
    """What to import, and how. `boot` None: chosen by the disk; with `firmware` the disk is imported whole.

    `kernel_of` names the image whose kernel replaces the disk's own. `patience` is in seconds.
    """

    source: Source
    name: Name | None = None
    checksum: Checksum | None = None
    kernel_of: Reference | None = None
    boot: BootMode | None = None
    firmware: bool = False
    ca: Path | None = None
    patience: float = 60.0
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Imported:
    """The imported image."""

    digest: str
    name: Name


@dataclass(frozen=True)
class _Disk:
    """A disk as a raw file of ours, and the SHA-256 of its source file."""

    path: Path
    size: int
    digest: str


def import_disk(
    options: ImportOptions, library: Library, libraries: Libraries, settings: Settings, progress: Progress
) -> Imported:
    """Make an image of a disk and add it to a library.

    What an import that fails or is killed leaves behind is removed by the next one. Raises `DayflyError` of many kinds, each
    with a hint.
    """
    name = options.name or options.source.name()
    library.create()
    sweep(library.layout)
    with work_folder(library.layout) as work, contextlib.ExitStack() as until_added:
        namespace = enter(work, settings.scratch_folder)
        disk = _raw(options, namespace, progress)
        making = _Making(options, disk, libraries, settings, work, namespace, progress, until_added)
        config, layers = making.image()
        progress("image: adding it to the library")
        origin = Origin.now(options.source, disk.digest)
        return Imported(library.add(config, layers, name, origin.annotations()), name)


def _raw(options: ImportOptions, namespace: Namespace, progress: Progress) -> _Disk:
    """The disk as a raw file.

    It is made from a copy, so that the file that was checked is the one converted, even if others can change the user's file.
    """
    folder, most = namespace.make("disk"), options.limits.size
    folder.chmod(0o700)
    what = str(options.source)
    path = folder / "source"
    progress(f"disk: {'fetching' if options.source.address else 'reading'} {what}")
    with files.reporting_full_disk(folder), path.open("xb") as target:
        place = options.source.address
        if place:
            fetch(place, target.fileno(), most, ca=options.ca, patience=options.patience)
        else:
            _copy(options.source.path, target.fileno(), most)
    digest = _compared(path, options.checksum, what)
    found = _recognised(path, what)
    if found.form is Format.OVA:
        path = _out_of_archive(path, folder / "member", what)
        what = f"the disk in {what}"
        found = _recognised(path, what)
        if found.form is not Format.VMDK:
            raise Refused(f"{what} is {found.form}, but an OVA must have a vmdk")
    if found.size == 0:
        raise Refused(f"{what} has an empty disk")
    if found.size > most:
        raise Refused(
            f"{what} has a disk of {format_size(found.size, most)}; the limit is {format_size(most)}",
            "--max-size raises it",
        )
    if namespace.owner is not None:
        os.chown(path, namespace.owner, namespace.owner)
        os.chown(folder, namespace.owner, namespace.owner)
    progress(f"disk: {found.form}, {format_size(found.size)}")
    return _Disk(convert.to_raw(namespace, path, found.form, found.size, what), found.size, digest)


def _copy(source: Path, target: int, most: int) -> None:
    """Copy a file without its holes."""
    descriptor = files.open_regular(source)
    try:
        size = os.fstat(descriptor).st_size
        if size > most:
            raise Refused(f"{source} is {format_size(size, most)}; the limit is {format_size(most)}", "--max-size raises it")
        os.ftruncate(target, size)
        files.copy_data(descriptor, target, size)
    finally:
        os.close(descriptor)


def _compared(path: Path, wanted: Checksum | None, what: str) -> str:
    """The SHA-256 of a file, which must match the given checksum."""
    sums = {name: hashlib.new(name, usedforsecurity=False) for name in {"sha256", wanted.algorithm if wanted else "sha256"}}
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            for checksum in sums.values():
                checksum.update(chunk)
    if wanted and sums[wanted.algorithm].hexdigest() != wanted.value:
        found = sums[wanted.algorithm].hexdigest()
        raise Corrupt(f"{what} does not match the checksum: its {wanted.algorithm} is {found}", "compare with the one published")
    return f"sha256:{sums['sha256'].hexdigest()}"


def _recognised(path: Path, what: str) -> Recognised:
    with path.open("rb") as file:
        return recognise(file.fileno(), what)


def _out_of_archive(path: Path, target: Path, what: str) -> Path:
    with path.open("rb") as opened, files.reporting_full_disk(target.parent), target.open("xb") as made:
        member = ova.disk_in(opened, what)
        files.copy_range(opened.fileno(), made.fileno(), member.offset, member.size)
    return target


@dataclass(frozen=True)
class _Making:
    """The making of one image."""

    options: ImportOptions
    disk: _Disk
    libraries: Libraries
    settings: Settings
    work: WorkFolder
    namespace: Namespace
    progress: Progress
    until_added: contextlib.ExitStack

    def image(self) -> tuple[ImageConfig, dict[Role, images.Source]]:
        """The image's config, and its layers, which exist until the image was added."""
        opened = self.until_added.enter_context(self.disk.path.open("rb")).fileno()
        table = partitions.read(opened, self.disk.size)
        if self.options.firmware:
            return self._whole(table)
        try:
            system = root.find(opened, table, self.options.limits, self._recover)
        except NotReadable as error:
            self.progress(f"disk: {error.message}")
            return self._whole(table)
        return self._of_files(system)

    def _recover(self, partition: Partition) -> None:
        self.progress(f"disk: partition {partition.number} was not unmounted; replaying its journal")
        convert.replay(self.namespace, self.disk.path, partition.start, partition.size, str(self.options.source))

    def _of_files(self, system: System) -> tuple[ImageConfig, dict[Role, images.Source]]:
        """An image of the files and a kernel."""
        version, layers = self._kernel(system)
        boots = self.options.boot or (BootMode.SYSTEM if system.has_systemd else BootMode.AGENT)
        if boots is BootMode.SYSTEM and not system.has_systemd:
            raise Refused("the disk's init is not systemd, the only one that can start jobs", "import it with --boot agent")
        if left := system.mounts():
            self.progress(f"disk: skipping its other filesystems: {', '.join(left[:8])}")
        youngest = max(node.attributes.mtime for _, node in system.tree.walk())
        made = rootfs.of_tree(system.tree, [system.file], system.os_release, youngest, "", self.namespace, self.progress)
        config = ImageConfig(
            os=made.os,
            kernel=Kernel(version, COMMAND_LINE),
            boot=boots,
            size=made.size,
            created=format_time(youngest),
        )
        return config, {Role.ROOT: images.Source(filesystem.FORM, made.path), **layers}

    def _kernel(self, system: System) -> tuple[str, dict[Role, images.Source]]:
        """The disk's own kernel, or another image's if it has none that is suitable."""
        if self.options.kernel_of is None:
            try:
                own = system.kernel(lambda argv, stdin, stdout: convert.unpack(self.namespace, argv, stdin, stdout))
            except Refused as error:
                self.progress(f"kernel: not the disk's own: {error.message}")
            else:
                self.progress(f"kernel: {own.version}, the disk's own")
                parts = {Role.KERNEL: ("elf", own.vmlinux), Role.BOOT_MODULES: ("cpio", own.boot_modules)}
                return own.version, {role: images.Source(form, content) for role, (form, content) in parts.items()}
        found = kernels.find(self.libraries, self.options.kernel_of)
        if found is None:
            made = kernels.debian(lambda date: BuildContext(self.settings, self.work, self.namespace, self.progress, date))
        else:
            made = kernels.of_image(self.until_added.enter_context(found))
        self.progress(f"kernel: {made.version}{f', of {found.name or found.digest[:19]}' if found else ''}")
        return made.version, made.layers

    def _whole(self, table: Table) -> tuple[ImageConfig, dict[Role, images.Source]]:
        """An image that firmware boots."""
        types = {partition.type for partition in table.partitions}
        if not table.bios and EFI not in types:
            raise Refused("firmware cannot boot the disk: it has neither a boot sector nor an EFI partition")
        boots = BootMode.BIOS if table.bios and (BIOS in types or EFI not in types) else BootMode.EFI
        if self.options.kernel_of or self.options.boot:
            given = "--kernel-of" if self.options.kernel_of else "--boot"
            raise Refused(f"{given} has no effect with --firmware: the disk is booted as it is", "remove it")
        self.progress(f"disk: importing it whole; {boots.upper()} starts its own boot loader, so jobs start slowly")
        path = convert.to_qcow2(self.namespace, self.disk.path, self.disk.size, str(self.options.source))
        config = ImageConfig(os=OperatingSystem("linux"), boot=boots, size=self.disk.size)
        return config, {Role.DISK: images.Source("qcow2", path)}
