"""The blobs of a library: stored once by content, checked before use, locked while in use.

A blob that was hashed leaves a fingerprint (inode, size, times). As long as the file still has it, opening it costs no hashing.
This detects accidents; users who may write to a library are trusted with it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import sys
from pathlib import Path

from dayfly import files
from dayfly.errors import Corrupt, NoSpace, NotFound, Refused
from dayfly.image.layout import Layout
from dayfly.image.manifest import Descriptor
from dayfly.values import dataclass

TYPE_CHECKING = False  # typing's own costs an import at every start, and checkers know the name
if TYPE_CHECKING:
    import hashlib

_CHUNK = 1024**2
_MODE = 0o644
_ATTEMPTS = 100
_FINGERPRINT_LIMIT = 256

DAMAGED_HINT = "check the rest with `dayfly image verify`, then build or import the image again"


@dataclass(frozen=True)
class Part:
    """A range of a file; `offset` and `size` are in bytes."""

    path: Path
    offset: int
    size: int


def store(layout: Layout, source: Path | Part | bytes) -> tuple[str, int]:
    """Put content into the library and return its digest and size. A kill at any moment leaves nothing behind.

    Content that is there already stays, unless it is damaged: then it is replaced. Raises `NoSpace`.
    """
    with files.drafting(layout.blobs, _MODE) as draft:
        with files.reporting_full_disk(layout.blobs):
            digest, size = _copy(source, draft.descriptor)
        if not _has(layout, digest, size):
            draft.publish(layout.blob(digest), _MODE)
            record(layout, digest, draft.descriptor)
    return digest, size


def _sha256() -> hashlib._Hash:
    import hashlib  # noqa: PLC0415 (loads OpenSSL, and most jobs' blobs need no hashing)

    return hashlib.sha256()


def _copy(source: Path | Part | bytes, target: int) -> tuple[str, int]:
    checksum, size = _sha256(), 0
    if isinstance(source, bytes):
        files.write_all(target, source)
        checksum.update(source)
        return f"sha256:{checksum.hexdigest()}", len(source)
    part = source if isinstance(source, Part) else Part(source, 0, sys.maxsize)
    with part.path.open("rb", buffering=0) as file:
        file.seek(part.offset)
        while chunk := file.read(min(_CHUNK, part.size - size)):
            checksum.update(chunk)
            files.write_all(target, chunk)
            size += len(chunk)
    return f"sha256:{checksum.hexdigest()}", size


def _has(layout: Layout, digest: str, size: int) -> bool:
    try:
        descriptor = open_file(layout.blob(digest), digest)
    except (FileNotFoundError, Corrupt):
        return False
    try:
        return problem(layout, digest, size, descriptor) == ""
    finally:
        os.close(descriptor)


def digest_of(descriptor: int) -> str:
    """The digest of an open file's content."""
    checksum, offset = _sha256(), 0
    while chunk := os.pread(descriptor, _CHUNK, offset):
        checksum.update(chunk)
        offset += len(chunk)
    return f"sha256:{checksum.hexdigest()}"


def _fingerprint(descriptor: int) -> bytes:
    return f"{files.fingerprint(os.fstat(descriptor))}\n".encode()


def _record_path(layout: Layout, digest: str) -> Path:
    return layout.verified / layout.blob(digest).name


def record(layout: Layout, digest: str, descriptor: int) -> None:
    """Note that this open file was found to match its digest. Nothing is noted if the library is not writable."""
    try:
        files.write(_record_path(layout, digest), _fingerprint(descriptor), durable=False)
    except NoSpace:
        return
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise


def forget(layout: Layout, digest: str) -> None:
    """Remove the note about a blob."""
    with contextlib.suppress(FileNotFoundError, PermissionError):
        _record_path(layout, digest).unlink()


def _recorded(layout: Layout, digest: str) -> bytes:
    try:
        with _record_path(layout, digest).open("rb") as file:
            return file.read(_FINGERPRINT_LIMIT)
    except (FileNotFoundError, PermissionError):
        return b""


def problem(layout: Layout, digest: str, size: int | None, descriptor: int, *, thorough: bool = False) -> str:
    """What is wrong with an open blob; empty if it matches its digest.

    Without `thorough`, a file that still has the fingerprint of its last check is not read again.
    """
    actual = os.fstat(descriptor).st_size
    if size is not None and actual != size:
        return f"has {actual} bytes instead of {size}"
    if not thorough and _recorded(layout, digest) == _fingerprint(descriptor):
        return ""
    before = _fingerprint(descriptor)
    found = digest_of(descriptor)
    if found != digest:
        forget(layout, digest)
        return f"does not match its digest: its content is {found}"
    if _recorded(layout, digest) != before and before == _fingerprint(descriptor):
        record(layout, digest, descriptor)
    return ""


def open_file(path: Path, what: str) -> int:
    """Open a blob's file, unchecked. Raises `Corrupt` if it is not a regular file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise Corrupt(f"{what} is damaged: {path} is not a regular file", DAMAGED_HINT) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Corrupt(f"{what} is damaged: {path} is not a regular file", DAMAGED_HINT)
    return descriptor


def open_blob(layout: Layout, wanted: Descriptor, what: str) -> int:
    """Open a blob for use: checked, and locked (shared) against garbage collection as long as the descriptor is open.

    `what` is the blob in an error: `the root of debian:12`. Raises `NotFound` if there is no such file, `Corrupt` if it is
    damaged.
    """
    path = layout.blob(wanted.digest)
    descriptor = _open_locked(path, what)
    try:
        wrong = problem(layout, wanted.digest, wanted.size, descriptor)
        if wrong:
            raise Corrupt(f"{what} is damaged: {path} {wrong}", DAMAGED_HINT)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _open_locked(path: Path, what: str) -> int:
    """Open a file and lock it, shared.

    Garbage collection locks a file exclusively only for the time to unlink it. A process that locks it for longer must not
    block every job of a site, and blocks the collection too: so after some tries the file is used without a lock.
    """
    for attempt in range(_ATTEMPTS):
        try:
            descriptor = open_file(path, what)
        except FileNotFoundError:
            break
        except PermissionError as error:
            raise Corrupt(f"{what} cannot be read: {error.strerror}: {path}", "its owner must run chmod a+r on it") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if attempt == _ATTEMPTS - 1:
                return descriptor
            os.close(descriptor)
            os.sched_yield()
            continue
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # collected between the two calls; it may have come back since
    raise NotFound(f"{what} is not there: {path}")


def read_blob(layout: Layout, wanted: Descriptor, limit: int, what: str) -> bytes:
    """A small blob's content, checked. Raises `NotFound`, `Corrupt`, or `Refused` when it is larger than `limit`."""
    path = layout.blob(wanted.digest)
    try:
        descriptor = open_file(path, what)
    except FileNotFoundError:
        raise NotFound(f"{what} is not there: {path}") from None
    with os.fdopen(descriptor, "rb") as file:
        wrong = problem(layout, wanted.digest, wanted.size, descriptor)
        if wrong:
            raise Corrupt(f"{what} is damaged: {path} {wrong}", DAMAGED_HINT)
        if wanted.size > limit:
            raise Refused(f"{what} has {wanted.size} bytes, more than the limit of {limit}")
        return file.read(wanted.size)


def remove_unused(path: Path) -> int | None:
    """Remove a blob's file unless it is in use: the bytes freed, or None."""
    flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, os.O_RDWR | flags)  # NFS locks exclusively only what is open for writing
    except PermissionError:
        descriptor = os.open(path, os.O_RDONLY | flags)
    except FileNotFoundError:
        return 0
    try:
        if not files.unused(descriptor):
            return None
        path.unlink(missing_ok=True)
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
