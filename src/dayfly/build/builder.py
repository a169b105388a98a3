"""From a recipe to an image in a library."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dayfly import files
from dayfly.build import archives, boot, debian, filesystem
from dayfly.build.boot import BootParts
from dayfly.build.namespace import Namespace, enter
from dayfly.build.recipe import Recipe
from dayfly.build.root import RootFacts, finish
from dayfly.errors import Refused
from dayfly.image.library import Library, Source
from dayfly.image.manifest import ImageConfig, Kernel, Role
from dayfly.image.reference import Name
from dayfly.image.work import WorkFolder, sweep, work_folder
from dayfly.settings import Settings

Progress = Callable[[str], None]
"""Told of every step in a line of text: `packages: downloading packages with apt`."""


@dataclass(frozen=True)
class _Build:
    """One build under way."""

    recipe: Recipe
    settings: Settings
    work: WorkFolder
    namespace: Namespace
    progress: Progress

    def root(self) -> tuple[Path, RootFacts, Path]:
        """The root filesystem's file, what is in it, and the archive that it was made of."""
        recipe = self.recipe
        raw, sources = self.bootstrap(
            "packages", recipe.distribution, recipe.release, recipe.components, recipe.variant, recipe.packages
        )
        self.progress("root: finishing the files")
        finished = self.work.path / "root.tar"
        with files.full_disk_told(self.work.path), finished.open("xb") as target:
            facts = finish(raw, target, recipe, archives.kept_lines(sources, recipe.components))
        self.progress("root: making the filesystem")
        return filesystem.from_archive(self.namespace, finished, recipe.date), facts, raw

    def bootstrap(
        self, step: str, distribution: str, release: str, components: tuple[str, ...], variant: str, packages: tuple[str, ...]
    ) -> tuple[Path, list[archives.Suite]]:
        """An archive of these packages, and the suites that they came from."""
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
        debian.bootstrap(self.namespace, step, argv, self.recipe.date, lambda line: self.progress(f"{step}: {line}"))
        return target, found

    def boot_parts(self, root: Path) -> tuple[BootParts, Path | None]:
        """What the image boots with, and the filesystem of all modules where the root has them not."""
        folder = self.work.path / "modules"
        folder.mkdir()
        if not self.recipe.kernel:
            with files.full_disk_told(self.work.path):
                return boot.take(root, folder), None
        archive, _ = self.bootstrap("kernel", "debian", self.recipe.kernel, ("main",), "extract", ("linux-image-amd64",))
        with files.full_disk_told(self.work.path):
            parts = boot.take(archive, folder)
        self.progress("kernel: making the filesystem of its modules")
        target = self.work.path / f"modules.{filesystem.FORM}"
        return parts, filesystem.from_folder(folder, target, self.recipe.date)


def build(recipe: Recipe, library: Library, settings: Settings, progress: Progress, *, name: Name | None = None) -> str:
    """Build an image and add it to a library under this name, or else the recipe's: its digest.

    A build that fails, or is killed, leaves nothing that the next one would not sweep away.
    Raises `DayflyError` of many kinds, each with what to do.
    """
    if recipe.date > time.time():
        raise Refused(
            f"the recipe's date, {recipe.created}, has not come yet",
            "no file of the image may be younger: take today's or an older one",
        )
    library.create()
    sweep(library.layout)
    with work_folder(library.layout) as work:
        current = _Build(recipe, settings, work, enter(work, settings.scratch_folder), progress)
        root, facts, archive = current.root()
        parts, modules = current.boot_parts(archive)
        progress("image: adding it to the library")
        layers = {
            Role.ROOT: Source(filesystem.FORM, root),
            Role.KERNEL: Source("elf", parts.vmlinux),
            Role.BOOT_MODULES: Source("cpio", parts.boot_modules),
        }
        if modules:
            layers[Role.MODULES] = Source(filesystem.FORM, modules)
        return library.add(config(recipe, facts, parts.version), layers, name or recipe.name)


def config(recipe: Recipe, facts: RootFacts, kernel: str) -> ImageConfig:
    """What the image says about itself."""
    return ImageConfig(
        os=facts.os,
        kernel=Kernel(kernel, recipe.command_line),
        boot=recipe.boot,
        size=facts.size,
        created=recipe.created,
        recipe=recipe.digest,
        default_user=recipe.default_user,
        environment=recipe.environment,
        labels=recipe.labels,
    )
