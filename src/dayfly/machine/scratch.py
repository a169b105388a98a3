"""The writable layer of a machine: ext4 in a sparse file without a name, gone with the last process that has it open."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from dayfly import files, process
from dayfly.errors import DayflyError, ProgramFailed

FILESYSTEM = "ext4"
# No journal and no reserve: nobody mounts this a second time.
_FORMAT = ("-q", "-t", "ext4", "-m", "0", "-O", "^has_journal,^resize_inode", "-E", "nodiscard,lazy_itable_init=1,root_owner=0:0")


def create(folder: Path, size: int, cache: Path) -> int:
    """A descriptor of a new, empty filesystem of `size` bytes in `folder`.

    Formatting takes longer than a job's start should: an empty filesystem of each size is kept in `cache`, its few blocks copied.
    Raises `NoSpace`, and `DayflyError` where the folder cannot hold such a file.
    """
    size -= size % 4096
    descriptor = files.unnamed(folder)
    try:
        with files.full_disk_told(folder):
            os.ftruncate(descriptor, size)
            with open(_formatted(cache, size), "rb") as empty:  # noqa: PTH123 (on the way to every job's start)
                _copy_data(empty.fileno(), descriptor, size)
    except OSError as error:
        os.close(descriptor)
        raise DayflyError(
            f"cannot make a scratch disk of {size} bytes in {folder}: {error.strerror}", "is ulimit -f below it?"
        ) from error
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _formatted(cache: Path, size: int) -> Path:
    path = cache / "scratch" / f"{FILESYSTEM}-{size}"
    if not path.exists():
        with files.writing(path, durable=False) as descriptor:
            os.ftruncate(descriptor, size)
            program = process.find("mke2fs", "e2fsprogs")
            try:
                process.run([program, *_FORMAT, f"/proc/self/fd/{descriptor}"], keep=[descriptor])
            except ProgramFailed as error:
                if os.fstatvfs(descriptor).f_bavail == 0:
                    raise OSError(errno.ENOSPC, "no space left") from error
                raise
    return path


def _copy_data(source: int, target: int, size: int) -> None:
    """Copy what is not a hole."""
    at = 0
    while at < size:
        try:
            start = os.lseek(source, at, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole is left
            return
        at = os.lseek(source, start, os.SEEK_HOLE)
        os.lseek(target, start, os.SEEK_SET)
        files.copy_range(source, target, start, at - start)
