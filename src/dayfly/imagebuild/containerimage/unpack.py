"""Unpacks a stored layer to a plain tar archive, with its digests checked and its size limited."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import zlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from dayfly import files, process
from dayfly.errors import Corrupt, Refused
from dayfly.units import format_size

_CHUNK = 1024**2
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_ZSTD_HEADER = 18
_WINDOW = 512 * 1024**2
"""The largest window of a zstd frame, in bytes: the limit of podman and docker, which use Go's zstd."""
_OTHERS = {b"\xfd7zXZ": "xz", b"BZh": "bzip2", b"\x04\x22\x4d\x18": "lz4"}


@dataclass(frozen=True)
class Blob:
    """A range of a file: a layer, a manifest. With a `digest`, it is checked."""

    path: Path
    offset: int
    size: int
    digest: str = ""

    def chunks(self) -> Generator[bytes, None, None]:
        """The content, checked when its end is reached. Raises `Corrupt`."""
        checksum = hashlib.sha256() if self.digest else None
        left = self.size
        with _opened(self.path) as file:
            while left:
                chunk = os.pread(file, min(_CHUNK, left), self.offset + self.size - left)
                if not chunk:
                    raise Corrupt(f"{self.path} is {left} bytes too short")
                left -= len(chunk)
                if checksum:
                    checksum.update(chunk)
                yield chunk
        if checksum and f"sha256:{checksum.hexdigest()}" != self.digest:
            raise Corrupt(f"the content of {self.path} does not match its digest: {self.digest}")

    def read(self, limit: int, what: str) -> bytes:
        """The whole content of a small blob. Raises `Refused` if it is larger than `limit`, or `Corrupt`."""
        if self.size > limit:
            raise Refused(f"{what} has {self.size} bytes, more than the limit of {limit}")
        return b"".join(self.chunks())

    def start(self, size: int) -> bytes:
        """The first bytes."""
        with _opened(self.path) as file:
            return os.pread(file, min(size, self.size), self.offset)

    def starts_with(self, magic: bytes) -> bool:
        """Whether it begins with these bytes."""
        return self.start(len(magic)) == magic


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        yield file
    finally:
        os.close(file)


def unpack(blob: Blob, target: Path, *, limit: int, diff_id: str, what: str) -> int:
    """Write the plain tar archive in a blob to a new file, and return its size.

    Raises `Refused` if its compression is unknown, it is damaged, or larger than `limit`; `Corrupt` if a digest is wrong;
    `ProgramMissing`, `NoSpace`.
    """
    checksum, size = hashlib.sha256(), 0
    with (
        files.reporting_full_disk(target.parent),
        target.open("xb", buffering=0) as output,
        contextlib.closing(_plain(blob, target.parent, what)) as chunks,
    ):
        for chunk in chunks:
            size += len(chunk)
            if size > limit:
                raise Refused(f"{what} unpacks to more than the {format_size(limit)} left of the limit", "--max-size raises it")
            checksum.update(chunk)
            files.write_all(output.fileno(), chunk)
    if diff_id and f"sha256:{checksum.hexdigest()}" != diff_id:
        raise Corrupt(f"the unpacked {what} does not match the digest in the container image's config: {diff_id}")
    return size


def is_packed(blob: Blob) -> bool:
    """Whether it begins with the magic of a compression that `unpack` supports."""
    return blob.starts_with(_GZIP) or blob.starts_with(_ZSTD)


def _plain(blob: Blob, folder: Path, what: str) -> Generator[bytes, None, None]:
    if blob.starts_with(_GZIP):
        return _gunzipped(blob, what)
    if blob.starts_with(_ZSTD):
        return _unzstd(blob, folder, what)
    for magic, name in _OTHERS.items():
        if blob.starts_with(magic):
            raise Refused(f"{what} is compressed with {name}, which is not supported", "use gzip or zstd")
    return blob.chunks()


def _gunzipped(blob: Blob, what: str) -> Generator[bytes, None, None]:
    """The content of a gzip file (RFC 1952), which may have several members, in chunks of limited size."""
    stream = zlib.decompressobj(31)
    try:
        for packed in blob.chunks():
            rest = packed
            while rest:
                if stream.eof:
                    if not rest.strip(b"\0"):
                        break  # zeros after the end are padding
                    stream = zlib.decompressobj(31)
                yield stream.decompress(rest, _CHUNK)
                rest = stream.unused_data if stream.eof else stream.unconsumed_tail
        if not stream.eof:
            raise Refused(f"{what} is truncated")
    except zlib.error as error:
        raise Refused(f"{what} is damaged: {error}") from error


def _check_window(blob: Blob, what: str) -> None:
    """Raise `Refused` if a zstd frame has a larger window than podman accepts (RFC 8878, section 3.1.1.1, "Frame Header")."""
    head = blob.start(_ZSTD_HEADER)
    if len(head) < 6:
        return
    kind, window = head[4], (1 << 10 + (head[5] >> 3)) // 8 * (8 + (head[5] & 7))
    if kind & 0x20:  # a single segment: the whole content is its window
        at, width = 5 + (0, 1, 2, 4)[kind & 3], (1, 2, 4, 8)[kind >> 6]
        window = int.from_bytes(head[at : at + width], "little")
    if window > _WINDOW:
        needs = f"{what} is compressed by zstd with a window of {format_size(window, _WINDOW)}"
        raise Refused(f"{needs}; the limit is {format_size(_WINDOW)}", "compress it again, without --long or --ultra")


def _unzstd(blob: Blob, folder: Path, what: str) -> Generator[bytes, None, None]:
    """Unpacked by the program zstd: Python has zstd only since 3.14."""
    _check_window(blob, what)
    command = ["zstd", "--decompress", "--stdout", "--quiet", "--no-progress", f"--memory={_WINDOW >> 20}MB"]
    process.find(command[0])
    with tempfile.TemporaryFile(dir=folder, buffering=0) as source:
        for chunk in blob.chunks():
            files.write_all(source.fileno(), chunk)
        source.seek(0)
        reader, writer = os.pipe2(os.O_CLOEXEC)
        with os.fdopen(reader, "rb", buffering=0) as output:
            try:
                child = process.spawn(command, stdin=source.fileno(), stdout=writer)
            finally:
                os.close(writer)
            try:
                while chunk := output.read(_CHUNK):
                    yield chunk
            finally:
                output.close()  # SIGPIPE ends it at its next write
                status, _ = child.wait()
    if status != 0:
        raise Refused(f"{what} is damaged: zstd cannot unpack it")
