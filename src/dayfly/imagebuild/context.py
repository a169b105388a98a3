"""The context of a build: what recipes and container images both need from a distribution."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dayfly import files, tar
from dayfly.errors import Refused
from dayfly.image.library import Source
from dayfly.image.manifest import Role
from dayfly.image.work import WorkFolder
from dayfly.imagebuild import archives, boot, debian, filesystem
from dayfly.imagebuild.boot import BootParts
from dayfly.imagebuild.filesystem import Progress
from dayfly.imagebuild.namespace import Namespace
from dayfly.settings import Settings

_MOST_FILES = 2_000_000


@dataclass(frozen=True)
class BuildContext:
    """The folders and settings of one build. No file of the image is newer than `date`, in seconds since the epoch."""

    settings: Settings
    work: WorkFolder
    namespace: Namespace
    progress: Progress
    date: int

    def bootstrap(
        self, step: str, distribution: str, release: str, components: tuple[str, ...], variant: str, packages: tuple[str, ...]
    ) -> tuple[Path, list[archives.Suite]]:
        """An archive with these packages installed, and the suites that they came from."""
        self.progress(f"{step}: looking for {distribution} {release}")
        known = archives.DISTRIBUTIONS[distribution]
        archive = archives.choose(archives.configured(), known, self.settings.build_mirror)
        archives.check_keyring(archive, known)
        found = archives.available(archive, release, self.work.path)
        target = self.namespace.make(step) / "root.tar"
        argv = debian.command(
            release,
            target,
            archives.source_lines(found, components, archive.keyring),
            variant=variant,
            packages=packages,
            apt_options=archives.options(),
        )
        debian.bootstrap(self.namespace, step, argv, self.date, lambda line: self.progress(f"{step}: {line}"))
        _check(target)
        return target, found

    def debian_kernel(self, release: str) -> tuple[BootParts, Path]:
        """The kernel of a Debian release, and the filesystem of all its modules."""
        archive, _ = self.bootstrap("kernel", "debian", release, ("main",), "extract", ("linux-image-amd64",))
        parts = self.kernel_in(archive)
        self.progress("kernel: making the filesystem of its modules")
        target = self.work.path / f"modules.{filesystem.FORM}"
        return parts, filesystem.from_folder(parts.folder, target, self.date)

    def kernel_in(self, archive: Path) -> BootParts:
        """The kernel in an archive of files."""
        folder = self.work.path / "modules"
        folder.mkdir()
        with files.reporting_full_disk(self.work.path):
            return boot.take(archive, folder)


def _check(archive: Path) -> None:
    """Raise `Refused` for a truncated archive: the next reader would not notice."""
    with archive.open("rb") as file:
        try:
            tar.check(file, _MOST_FILES)
        except Refused as error:
            raise Refused(f"mmdebstrap's archive cannot be read: {error.message}", "build again") from error


def layers_of(parts: BootParts, modules: Path | None) -> dict[Role, Source]:
    """An image's layers for a kernel, and for its modules' filesystem unless they are in the root."""
    layers = {Role.KERNEL: Source("elf", parts.vmlinux), Role.BOOT_MODULES: Source("cpio", parts.boot_modules)}
    return layers | ({Role.MODULES: Source(filesystem.FORM, modules)} if modules else {})
