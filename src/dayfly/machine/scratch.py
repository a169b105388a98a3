"""The writable layer of a machine: ext4 in a sparse file without a name, gone with the last process that has it open."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from dayfly import files, process
from dayfly.errors import DayflyError, NoSpace, ProgramFailed

FILESYSTEM = "ext4"
_CLUSTER = 65536
# No journal and no reserve: nobody mounts this a second time.
_FORMAT = ("-q", "-t", "ext4", "-m", "0", "-O", "^has_journal,^resize_inode", "-E", "nodiscard,lazy_itable_init=1,root_owner=0:0")


def create(folder: Path, size: int, cache: Path | None) -> int:
    """A descriptor of a new, empty filesystem of `size` bytes in `folder`.

    Formatting takes longer than a job's start should: an empty filesystem of each size is kept in `cache`, its few blocks copied.
    Where there is none (None), or it cannot be used, the scratch disk itself is formatted.
    Raises `NoSpace`, and `DayflyError` where the folder cannot hold such a file.
    """
    size -= size % 4096
    empty = _formatted(cache, size) if cache else None
    if empty is None:
        return _filled(folder, size, _format)
    try:
        return copy(folder, empty)
    finally:
        os.close(empty)


def copy(folder: Path, source: int) -> int:
    """A descriptor of a new file in `folder` with the content of an open sparse one. Raises as `create`."""
    size = os.fstat(source).st_size
    return _filled(folder, size, lambda descriptor: files.copy_data(source, descriptor, size))


def overlay(folder: Path, size: int) -> int:
    """A descriptor of a new, empty qcow2 in `folder`, of a disk of `size` bytes, to be laid over another. Raises as `create`."""
    size += -size % _CLUSTER

    def fill(descriptor: int) -> None:
        words = ["create", "-q", "-f", "qcow2", f"/proc/self/fd/{descriptor}", str(size)]
        process.run([process.find("qemu-img", "qemu-utils"), *words], keep=[descriptor])

    return _filled(folder, 0, fill)


def _filled(folder: Path, size: int, fill: Callable[[int], None]) -> int:
    descriptor = files.unnamed(folder)
    try:
        with files.full_disk_told(folder):
            os.ftruncate(descriptor, size)
            fill(descriptor)
    except OSError as error:
        os.close(descriptor)
        message = f"cannot make a scratch disk of {size} bytes in {folder}: {error.strerror}"
        raise DayflyError(
            message, "is ulimit -f below it?" if error.errno == errno.EFBIG else "see what that folder is on"
        ) from error
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _formatted(cache: Path, size: int) -> int | None:
    """An empty filesystem of this size from the cache, made on the first call; None where the cache cannot be used."""
    path = cache / "scratch" / f"{FILESYSTEM}-{size}"
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        pass
    except OSError:
        return None
    try:
        with files.writing(path, durable=False) as descriptor:
            os.ftruncate(descriptor, size)
            _format(descriptor)
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, NoSpace):
        return None


def _format(descriptor: int) -> None:
    program = process.find("mke2fs", "e2fsprogs")
    try:
        process.run([program, *_FORMAT, f"/proc/self/fd/{descriptor}"], keep=[descriptor])
    except ProgramFailed as error:
        if os.fstatvfs(descriptor).f_bavail == 0:  # mke2fs does not say so itself
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise
