"""From the files of a machine to an image: what `dayfly run --save-as` keeps, and what the steps of a recipe made.

The archive of the files came out of a machine that was its user's, so it is as hostile as a container's layer, and goes the same
way (`dayfly.imagebuild.containerimage`): checked entry by entry, never unpacked but in a namespace.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dayfly import process
from dayfly.errors import Refused
from dayfly.image.library import Library, OpenImage, Source
from dayfly.image.manifest import Parent, Role
from dayfly.image.reference import Name
from dayfly.image.work import WorkFolder, sweep, work_folder
from dayfly.imagebuild import filesystem
from dayfly.imagebuild.containerimage import rootfs
from dayfly.imagebuild.containerimage.rootfs import Root
from dayfly.imagebuild.containerimage.tree import Limits, Node
from dayfly.imagebuild.filesystem import Progress
from dayfly.imagebuild.namespace import Namespace, enter
from dayfly.settings import Settings
from dayfly.units import format_time


@dataclass(frozen=True)
class CaptureTarget:
    """Where an image is made of a machine's files. `archive` is open for them to be written to, `path` is its name."""

    namespace: Namespace
    archive: int
    path: Path


@contextlib.contextmanager
def bench(library: Library, settings: Settings) -> Iterator[CaptureTarget]:
    """All that the making of an image needs, before there is a machine. Nothing is left of it afterwards.

    Raises `ProgramMissing`, or `Refused` with what else is missing.
    """
    process.find("mkfs.erofs", "erofs-utils")
    library.create()
    sweep(library.layout)
    with work_folder(library.layout) as work, archived(work, enter(work, settings.scratch_folder)) as made:
        yield made


@contextlib.contextmanager
def archived(work: WorkFolder, namespace: Namespace) -> Iterator[CaptureTarget]:
    """A new archive in a work folder."""
    path = work.path / f"{secrets.token_hex(4)}.tar"
    archive = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        yield CaptureTarget(namespace, archive, path)
    finally:
        os.close(archive)


def root(
    at: CaptureTarget,
    directory: str,
    date: int,
    progress: Progress,
    *,
    latest: int | None = None,
    additions: Mapping[str, Node] | None = None,
) -> Root:
    """The filesystem of the files in the archive, and of `additions`; with `latest`, none of them is younger.

    Raises `Refused` for what no image may have, `ProgramFailed`, `NoSpace`.
    """
    progress("root: reading the machine's files")
    try:
        return rootfs.make(
            [at.path], Limits(), date, directory, at.namespace, progress, latest=latest, additions=additions, captured=True
        )
    except Refused as error:
        raise Refused(f"the machine's files cannot become an image: {error.message}") from error


def save(at: CaptureTarget, parent: OpenImage, library: Library, name: Name, progress: Progress) -> str:
    """Add an image of the files in the archive, which came from a machine of `parent`: its digest.

    It has the parent's kernel, and says of itself what the parent says. Raises as `root`.
    """
    now = int(time.time())
    made = root(at, parent.config.directory, now, progress)
    config = replace(
        parent.config,
        os=made.os,
        size=made.size,
        created=format_time(now),
        recipe="",
        parent=Parent(parent.digest, parent.name),
    )
    progress("image: adding it to the library")
    return library.add(config, {Role.ROOT: Source(filesystem.FORM, made.path), **kernel_of(parent)}, name)


def kernel_of(image: OpenImage) -> dict[Role, Source]:
    """The layers of an image's kernel; of use as long as it is open."""
    parts = {Role.KERNEL: image.kernel, Role.MODULES: image.modules, Role.BOOT_MODULES: image.boot_modules}
    return {role: Source(part.form, part.path) for role, part in parts.items() if part is not None}
