"""Fetches lists and their images from https:// or from a file, with limits on size and time."""

from __future__ import annotations

import contextlib
import os
import ssl
import stat
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, Protocol

from dayfly import files
from dayfly.errors import DayflyError, Refused
from dayfly.image.inspection.texts import shown

_CHUNK = 256 * 1024
_PATIENCE = 60.0
"""Seconds that a server may be silent; and seconds after which it must have sent `_PACE` bytes a second on average."""
_PACE = 64 * 1024


class FetchFailed(DayflyError):
    """A server or a filesystem did not deliver a file."""


class _Source(Protocol):
    def read(self, size: int, /) -> bytes | None:
        """At most so many bytes; none at the end."""


def absolute(place: str) -> str:
    """An address as it is stored: https://…, or a file's absolute path as file://…. Raises `Refused` for other schemes."""
    try:
        parts = urllib.parse.urlsplit(place)
        if parts.scheme == "https" and parts.hostname:
            return place
    except ValueError:
        raise Refused(f"{place} is not a valid address") from None
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/"):
        return f"file://{parts.path}"
    if "://" in place:
        raise Refused(f"{place} is not an address to fetch from", "https://… or a file")
    return f"file://{urllib.parse.quote(os.path.abspath(place))}"  # noqa: PTH100 (links stay as they are)


def fetch(place: str, target: int, limit: int, *, ca: Path | None = None, patience: float = 0.0) -> int:
    """Write what is at an address, as `absolute` has it, to an open file: how many bytes there were.

    `ca` has the certificates of the authorities for servers (default: the host's), `patience` is in seconds (default: a minute).
    Raises `FetchFailed`, `NoSpace`, or `Refused` when there are more than `limit`.
    """
    source = _file(place) if place.startswith("file://") else _answer(place, ca, patience or _PATIENCE)
    with source as opened:
        return _copy(opened, target, limit, place)


@contextlib.contextmanager
def _file(place: str) -> Iterator[_Source]:
    path = Path(urllib.parse.unquote(place.removeprefix("file://")))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise FetchFailed(f"{path} cannot be read: {getattr(error, 'strerror', error)}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FetchFailed(f"{path} is not a regular file")
        with os.fdopen(os.dup(descriptor), "rb", buffering=0) as file:
            yield file
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _answer(place: str, ca: Path | None, patience: float) -> Iterator[_Source]:
    if not place.startswith("https://"):
        raise Refused(f"{place} is not an address to fetch from", "https://… or a file")
    request = urllib.request.Request(place, headers={"User-Agent": "dayfly"})  # noqa: S310 (https, as was just checked)
    try:
        trusting = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(ca) if ca else None))
        answer: HTTPResponse = urllib.request.build_opener(_OnlyHttps(), trusting).open(request, timeout=patience)
    except (OSError, HTTPException, ValueError) as error:
        raise FetchFailed(f"{place} cannot be fetched: {_why(error)}") from error
    with answer:
        yield _Answer(answer, place, patience)


class _Answer:
    """A server's answer. Failures while it is read are reported, and one that arrives too slowly is given up."""

    def __init__(self, answer: HTTPResponse, place: str, patience: float) -> None:
        self._answer, self._place, self._patience = answer, place, patience
        self._begun, self._bytes = time.monotonic(), 0

    def read(self, size: int, /) -> bytes:
        """At most so many bytes. Raises `FetchFailed`."""
        try:
            chunk = self._answer.read1(size)  # `read` would wait until all of it is there
        except (OSError, HTTPException) as error:
            raise FetchFailed(f"{self._place} cannot be fetched: {_why(error)}") from error
        self._bytes += len(chunk)
        if time.monotonic() - self._begun > self._patience + self._bytes / _PACE:
            raise FetchFailed(f"{self._place} comes too slowly: {self._bytes} bytes so far")
        return chunk


class _OnlyHttps(urllib.request.HTTPRedirectHandler):
    """Follows redirections, at most ten of them, and to https only."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not newurl.startswith("https://"):
            raise urllib.error.URLError(f"it redirects to {newurl[:200]}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _why(error: Exception) -> str:
    """The reason, in printable form: a server may have chosen its words."""
    if isinstance(error, urllib.error.HTTPError):
        return shown(f"the server answered {error.code} {error.reason}")
    return shown(str(error.reason if isinstance(error, urllib.error.URLError) else error)) or type(error).__name__


def _copy(source: _Source, target: int, limit: int, place: str) -> int:
    size = 0
    while chunk := source.read(_CHUNK):
        size += len(chunk)
        if size > limit:
            raise Refused(f"{place} is larger than the limit of {limit} bytes")
        files.write_all(target, chunk)
    return size
