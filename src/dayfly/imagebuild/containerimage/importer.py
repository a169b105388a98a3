"""Imports a container image into a library."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from dayfly.image import library as images
from dayfly.image.library import Library
from dayfly.image.manifest import ImageConfig, Kernel, Role, is_user
from dayfly.image.origin import Origin
from dayfly.image.reference import Name, Reference
from dayfly.image.search import Libraries
from dayfly.image.work import WorkFolder, sweep, work_folder
from dayfly.imagebuild import filesystem
from dayfly.imagebuild.containerimage import kernels, layouts, rootfs, source
from dayfly.imagebuild.containerimage.fetch import fetch
from dayfly.imagebuild.containerimage.layouts import Container
from dayfly.imagebuild.containerimage.manifest import ContainerConfig
from dayfly.imagebuild.containerimage.rootfs import Root
from dayfly.imagebuild.containerimage.source import Source, Transport
from dayfly.imagebuild.containerimage.tree import Limits
from dayfly.imagebuild.containerimage.unpack import unpack
from dayfly.imagebuild.context import BuildContext
from dayfly.imagebuild.filesystem import Progress
from dayfly.imagebuild.namespace import enter
from dayfly.imagebuild.skopeo import Access
from dayfly.settings import Settings
from dayfly.units import format_size


@dataclass(frozen=True)
class ImportOptions:
    """What to import, and how. `kernel_of` names the image that the kernel is taken from."""

    source: Source
    name: Name | None = None
    kernel_of: Reference | None = None
    access: Access = field(default_factory=Access)
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Imported:
    """The imported image."""

    digest: str
    name: Name


def import_container(
    options: ImportOptions, library: Library, libraries: Libraries, settings: Settings, progress: Progress
) -> Imported:
    """Convert a container image and add it to a library.

    What an import that fails or is killed leaves behind is removed by the next one. Raises `DayflyError` of many kinds, each
    with a hint.
    """
    library.create()
    sweep(library.layout)
    with work_folder(library.layout) as work:
        namespace = enter(work, settings.scratch_folder)
        with contextlib.ExitStack() as until_added:
            found = kernels.find(libraries, options.kernel_of)
            kernel = kernels.of_image(until_added.enter_context(found)) if found else None
            container = _find(options, work, progress)
            name = options.name or source.default_name(options.source, container.name)
            plain = _unpacked(container, options.limits, work.path, progress)
            date = int(datetime.fromisoformat(container.config.created).timestamp())
            root = rootfs.make(plain, options.limits, date, container.config.directory, namespace, progress)
            if kernel is None:
                kernel = kernels.debian(lambda date: BuildContext(settings, work, namespace, progress, date))
            progress(f"kernel: {kernel.version}{f', of {found.name or found.digest[:19]}' if found else ''}")
            progress("image: adding it to the library")
            layers = {Role.ROOT: images.Source(filesystem.FORM, root.path), **kernel.layers}
            origin = Origin.now(options.source, container.digest)
            config = _config(container.config, root, kernel.version)
            return Imported(library.add(config, layers, name, origin.annotations()), name)


def _find(options: ImportOptions, work: WorkFolder, progress: Progress) -> Container:
    wanted, limits = options.source, options.limits
    if wanted.transport is Transport.REGISTRY:
        return fetch(wanted, options.access, limits, work.path / "fetched", progress)
    if wanted.transport is Transport.LAYOUT:
        return layouts.in_layout(wanted.path, wanted.tag, limits)
    if wanted.transport is Transport.LAYOUT_ARCHIVE:
        return layouts.in_layout_archive(wanted.path, wanted.tag, limits, work.path)
    return layouts.in_docker_archive(wanted.path, wanted.tag, limits, work.path)


def _unpacked(container: Container, limits: Limits, folder: Path, progress: Progress) -> list[Path]:
    plain: list[Path] = []
    left = limits.size
    for number, (blob, diff_id) in enumerate(zip(container.layers, container.config.diff_ids, strict=True)):
        progress(f"layers: unpacking {number + 1} of {len(container.layers)}, {format_size(blob.size)}")
        path = folder / f"layer{number}.tar"
        left -= unpack(blob, path, limit=left, diff_id=diff_id, what=f"layer {number + 1}")
        plain.append(path)
    return plain


def _config(container: ContainerConfig, root: Root, kernel: str) -> ImageConfig:
    return ImageConfig(
        os=root.os,
        kernel=Kernel(kernel),
        size=root.size,
        created=container.created,
        default_user=container.user if is_user(container.user) else "",
        entrypoint=container.entrypoint,
        command=container.command,
        directory=container.directory,
        environment=container.environment,
        labels=container.labels,
    )
