"""Makes an image of a machine's files: for `dayfly run --save-as`, and after the steps of a recipe.

The archive of the files comes from a machine that its user controlled, so it is as hostile as a layer, and is treated alike
(`dayfly.imagebuild.containerimage`): checked entry by entry, and only unpacked in a namespace.
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
    """Where a machine's files are captured. `archive` is the open file that they are written to, `path` is its name."""

    namespace: Namespace
    archive: int
    path: Path


@contextlib.contextmanager
def prepared(library: Library, settings: Settings) -> Iterator[CaptureTarget]:
    """Prepare the capture before there is a machine. Everything is removed afterwards.

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
    """The filesystem of the files in the archive, and of `additions`; with `latest`, no file is newer than that.

    Raises `Refused` for files that no image may have, `ProgramFailed`, `NoSpace`.
    """
    progress("root: reading the machine's files")
    try:
        return rootfs.make(
            [at.path], Limits(), date, directory, at.namespace, progress, latest=latest, additions=additions, captured=True
        )
    except Refused as error:
        raise Refused(f"the machine's files cannot become an image: {error.message}") from error


def save(at: CaptureTarget, parent: OpenImage, library: Library, name: Name, progress: Progress) -> str:
    """Add an image of the files in the archive, from a machine of `parent`, and return its digest.

    It has the parent's kernel and config. Raises as `root`.
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
    """The layers of an image's kernel; valid as long as the image is open."""
    parts = {Role.KERNEL: image.kernel, Role.MODULES: image.modules, Role.BOOT_MODULES: image.boot_modules}
    return {role: Source(part.form, part.path) for role, part in parts.items() if part is not None}
