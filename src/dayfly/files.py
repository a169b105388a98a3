"""Atomic writing of files, locks, and reading files that others may have written. Names are in `dayfly.disknames`."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from dayfly.errors import Corrupt, DayflyError, NoSpace, NotFound, Refused
from dayfly.values import dataclass

_MOST_LINKS = 40
"""The kernel's limit on links in a path (path_resolution(7))."""
_UNKNOWN = 65534
"""The owner of files whose owner is not mapped in the user namespace (user_namespaces(7), overflowuid)."""

_DRAFT = r"\.draft-\d+-[0-9a-f]{12}"


def is_draft(name: str) -> bool:
    """Whether this is the name of a draft that a killed process left."""
    return re.fullmatch(_DRAFT, name) is not None


@contextlib.contextmanager
def writing(path: Path, mode: int = 0o644, *, durable: bool = True) -> Iterator[int]:
    """A descriptor for writing a new file; it appears at `path`, replacing the old one, only if the block succeeds.

    The file has no name until then, so that a kill leaves nothing behind (but see `drafting`).
    A `durable` file survives a power cut.
    Raises `NoSpace` if the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with drafting(path.parent, mode) as draft:
        with reporting_full_disk(path.parent):
            yield draft.descriptor
        draft.publish(path, mode, durable=durable)


@dataclass()
class Draft:
    """A file that is being written in the folder where it will get its name. `beside` is its name until then, if it must have
    one.
    """

    descriptor: int
    beside: Path | None

    def publish(self, path: Path, mode: int = 0o644, *, durable: bool = True) -> None:
        """Give the file its name, replacing an existing file. Raises `NoSpace`."""
        with reporting_full_disk(path.parent):
            os.fchmod(self.descriptor, mode)
            if durable:
                os.fsync(self.descriptor)
            self._name(path)
        if durable:
            sync_folder(path.parent)

    def _name(self, path: Path) -> None:
        """linkat(2) cannot replace a file, so an existing name is replaced by a rename from a temporary name."""
        source = f"/proc/self/fd/{self.descriptor}"
        try:
            if self.beside is None:
                os.link(
                    source, path, src_dir_fd=self.descriptor, follow_symlinks=True
                )  # without src_dir_fd, Python calls link(2)
                return
        except FileExistsError:
            self.beside = _beside(path.parent)
            os.link(source, self.beside, src_dir_fd=self.descriptor, follow_symlinks=True)
        self.beside.replace(path)
        self.beside = None


@contextlib.contextmanager
def drafting(folder: Path, mode: int = 0o644) -> Iterator[Draft]:
    """A new unnamed file; on filesystems without them (NFS), one whose name `is_draft` recognises. Raises `NoSpace`."""
    with reporting_full_disk(folder):
        draft = _draft(folder, mode)
    try:
        yield draft
    finally:
        os.close(draft.descriptor)
        if draft.beside is not None:
            draft.beside.unlink(missing_ok=True)


def _draft(folder: Path, mode: int) -> Draft:
    try:
        return Draft(os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, mode), None)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
            raise
    beside = _beside(folder)
    return Draft(os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), beside)


def _beside(folder: Path) -> Path:
    return folder / f".draft-{os.getpid()}-{os.urandom(6).hex()}"


def write(path: Path, content: bytes, mode: int = 0o644, *, durable: bool = True) -> None:
    """Write a file atomically."""
    with writing(path, mode, durable=durable) as descriptor:
        write_all(descriptor, content)


def write_all(descriptor: int, content: bytes | memoryview) -> None:
    """Write every byte."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def read_all(descriptor: int, limit: int) -> bytes:
    """Read an open file from its current offset, at most `limit` bytes."""
    content = b""
    while len(content) < limit and (chunk := os.read(descriptor, limit - len(content))):
        content += chunk
    return content


def copy_range(source: int, target: int, start: int, size: int) -> None:
    """Copy bytes of one open file, from `start`, to the current offset of another. Raises `Corrupt` if the source is shorter."""
    end = start + size
    while start < end:
        copied = os.sendfile(target, source, start, end - start)
        if copied == 0:
            raise Corrupt(f"a file is {end - start} bytes too short")
        start += copied


def data_of(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """The ranges of an open file of `size` bytes with data, without holes: beginnings and ends."""
    end = 0
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole is left
            return
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, end


def copy_data(source: int, target: int, size: int) -> None:
    """Copy the data of an open file, without holes, to another one that already has its size."""
    for start, end in data_of(source, size):
        os.lseek(target, start, os.SEEK_SET)
        copy_range(source, target, start, end - start)


def read(path: Path, limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes. Raises `Refused` if it is larger or not a regular file."""
    with open(path, "rb", opener=_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise Refused(f"{path} is not a regular file")
        content = file.read(limit + 1)
    if len(content) > limit:
        raise Refused(f"{path} is larger than the limit of {limit} bytes")
    return content


def read_owned(path: str, owners: Collection[int] | None, limit: int) -> bytes | None:
    """The content of a file that only these users (None: anybody) and root could have written, replaced or removed.

    None if there is no file. The file must belong to one of them, and so must every folder in its path; nobody else may write
    there, except in folders with the sticky bit. On the hot path of every job. Raises `Refused` with what is wrong, without
    the path.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError) as error:
        if os.path.islink(path):  # noqa: PTH114 (a hot path)
            raise Refused("it is a dangling link") from error
        if owners is not None and os.path.isdir(os.path.dirname(path)):  # noqa: PTH112, PTH120
            _check_folders(path, {0, *owners, _UNKNOWN})
        return None
    except OSError as error:
        raise Refused(f"it cannot be read: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Refused("it is not a regular file")
        if owners is not None:
            if status.st_uid not in owners or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise Refused(f"users other than {_named(owners)} can write to it", "check its owner and mode")
            _check_folders(path, {0, *owners})
        content = read_all(descriptor, limit + 1)
    finally:
        os.close(descriptor)
    if len(content) > limit:
        raise Refused(f"it is larger than {limit} bytes")
    return content


def _check_folders(path: str, owners: Collection[int]) -> None:
    """Raises `Refused` if other users can replace or remove the file at a path."""
    for folder in _folders(os.path.abspath(path)):  # noqa: PTH100 (a hot path)
        try:
            status = os.stat(folder)  # noqa: PTH116
        except OSError:  # a missing folder contains no files
            return
        others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX
        if status.st_uid not in owners or others:
            message = f"users other than {_named(owners)} can replace or remove it"
            raise Refused(message, f"check the owner and mode of the folder {folder}")


def _folders(path: str) -> Iterator[str]:
    """Every folder that an absolute path leads through, including those of links."""
    at, left, links = "", path.split("/")[1:], 0
    yield "/"
    while left and links < _MOST_LINKS:
        part, *left = left
        if part in ("", ".", ".."):
            at = at.rpartition("/")[0] if part == ".." else at
            continue
        try:
            target = os.readlink(f"{at}/{part}")  # noqa: PTH115 (a hot path)
        except OSError:
            at = f"{at}/{part}"
            if left:
                yield at
            continue
        links += 1
        at, left = "" if target.startswith("/") else at, [*target.split("/"), *left]


def _named(owners: Collection[int]) -> str:
    return "root" if set(owners) <= {0, _UNKNOWN} else "you and root"


def open_regular(path: Path) -> int:
    """A descriptor of a regular file, for reading. Raises `NotFound`, or `Refused` if it is not a regular file or cannot
    be read.
    """
    try:
        descriptor = _at_once(str(path), os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"there is no file {path}") from None
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Refused(f"{path} is not a regular file")
    return descriptor


def _at_once(path: str, flags: int) -> int:
    """Open without blocking if the file is a named pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def reporting_full_disk(folder: Path) -> Iterator[None]:
    """Turn a full disk or quota into `NoSpace`, which names the folder."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"no space left in {folder}", "make room there, or set another folder in the settings") from error
        raise


@contextlib.contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock file; waits for it. It is released when this process ends for any reason."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def fingerprint(status: os.stat_result) -> str:
    """A text that changes with any change of a file; `status` is from `os.fstat` or `os.stat`."""
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def unused(descriptor: int) -> bool:
    """Whether no other process has a lock on this open file. If so, this descriptor now holds it exclusively."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unnamed(folder: Path) -> int:
    """A new unnamed file: it is gone with its last descriptor, even after a kill. Raises `NoSpace`."""
    with reporting_full_disk(folder):
        try:
            return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
                raise
            raise DayflyError(
                f"{folder} is on a filesystem without unnamed files (O_TMPFILE)",
                "set scratch.folder in the settings to a folder on ext4, xfs, btrfs or tmpfs",
            ) from error
