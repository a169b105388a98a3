"""The scratch disk of a machine: ext4 in an unnamed sparse file, which is gone with the last process that has it open."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from dayfly import disknames, files, process
from dayfly.errors import DayflyError, ProgramFailed
from dayfly.machine import ends

FILESYSTEM = "ext4"
_CLUSTER = 65536
# No journal, no reserve, one superblock: it is mounted only once. No checksums: with them the UUID could not be changed.
_FEATURES = "^has_journal,^resize_inode,^metadata_csum,^uninit_bg,^sparse_super,sparse_super2"
_FORMAT = ("-q", "-t", "ext4", "-m", "0", "-O", _FEATURES, "-E", "nodiscard,num_backup_sb=0,root_owner=0:0")
_UUID_AT = 1024 + 0x68  # s_uuid of the superblock (Linux, Documentation/filesystems/ext4/super.rst)


def create(folder: Path, size: int, cache: Path | None) -> int:
    """A descriptor of a new, empty filesystem of `size` bytes in `folder`, with a UUID of its own.

    Formatting takes too long for a job's start: an empty filesystem of each size is stored in `cache`, and its few blocks are
    copied. Without a cache (None), or if it cannot be used, the scratch disk itself is formatted. Raises `NoSpace`, and
    `DayflyError` if the folder cannot hold such a file.
    """
    size -= size % 4096
    empty = _cached(cache, size) if cache else None
    if empty is None:
        empty = _filled(folder, size, _format)
    try:
        descriptor = copy(folder, empty)
    finally:
        os.close(empty)
    os.pwrite(descriptor, uuid(), _UUID_AT)
    return descriptor


def uuid() -> bytes:
    """A random UUID (RFC 4122, 4.4). Importing the module `uuid` would slow down every job's start."""
    value = bytearray(os.urandom(16))
    value[6] = value[6] & 0x0F | 0x40
    value[8] = value[8] & 0x3F | 0x80
    return bytes(value)


def copy(folder: Path, source: int) -> int:
    """A descriptor of a new file in `folder` with the content of an open sparse one. Raises as `create`."""
    size = os.fstat(source).st_size
    return _filled(folder, size, lambda descriptor: files.copy_data(source, descriptor, size))


def overlay(folder: Path, size: int) -> int:
    """A descriptor of a new, empty overlay qcow2 in `folder`, for a disk of `size` bytes. Raises as `create`."""
    size += -size % _CLUSTER

    def fill(descriptor: int) -> None:
        words = ["create", "-q", "-f", "qcow2", f"/proc/self/fd/{descriptor}", str(size)]
        process.run([process.find("qemu-img", "qemu-utils"), *words], keep=[descriptor])

    return _filled(folder, 0, fill)


def _filled(folder: Path, size: int, fill: Callable[[int], None]) -> int:
    descriptor = files.unnamed(folder)
    try:
        with files.reporting_full_disk(folder):
            os.ftruncate(descriptor, size)
            fill(descriptor)
    except OSError as error:
        os.close(descriptor)
        message = f"cannot make a scratch disk of {size} bytes in {folder}: {error.strerror}"
        raise DayflyError(message, ends.behind(message, process.limits()) or "check the filesystem of that folder") from error
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _cached(cache: Path, size: int) -> int | None:
    """An empty filesystem of this size from the cache, made on the first call; None if the cache cannot be used."""
    path = cache / disknames.EMPTY_DISKS / f"{FILESYSTEM}-plain-{size}"
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        pass
    except OSError:
        return None
    try:
        with files.writing(path, durable=False) as descriptor:
            formatted = _filled(path.parent, size, _format)
            try:
                os.ftruncate(descriptor, size)
                files.copy_data(formatted, descriptor, size)
            finally:
                os.close(formatted)
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, DayflyError):
        return None


def _format(descriptor: int) -> None:
    """Only a copy of its data is used: mke2fs reserves space for all inodes, which is not needed."""
    program = process.find("mke2fs", "e2fsprogs")
    try:
        process.run([program, *_FORMAT, f"/proc/self/fd/{descriptor}"], keep=[descriptor])
    except ProgramFailed as error:
        if os.fstatvfs(descriptor).f_bavail == 0:  # mke2fs does not report it itself
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise
