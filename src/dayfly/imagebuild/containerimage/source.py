"""The source of a container image, as the user writes it: `docker://HOST/NAME:TAG`, `oci:FOLDER:TAG` and others."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dayfly.errors import Refused
from dayfly.image.fields import line
from dayfly.image.reference import Name, parse_name

_HINT = "write docker://HOST/NAME:TAG, oci:FOLDER:TAG, oci-archive:FILE or docker-archive:FILE; disk:FILE or https://… for a disk"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,253}[A-Za-z0-9])?|\[[0-9A-Fa-f:]{2,45}\])(?::[0-9]{1,5})?"
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REMOTE = re.compile(
    rf"(?P<repository>(?:{_HOST}/)?{_PART}(?:/{_PART}){{0,32}})(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{{0,127}}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_LIMIT = 1024


class Transport(StrEnum):
    """Where a container image is."""

    REGISTRY = "docker"
    LAYOUT = "oci"
    LAYOUT_ARCHIVE = "oci-archive"
    DOCKER_ARCHIVE = "docker-archive"


@dataclass(frozen=True)
class Source:
    """A container image. In a registry: the `repository`, and `tag` or `digest`. Otherwise a `path`, and the name in it (may be
    empty).
    """

    transport: Transport
    path: Path = Path()
    repository: str = ""
    tag: str = ""
    digest: str = ""

    @property
    def host(self) -> str:
        """The registry. If the first part cannot be a host name, it is Docker's."""
        first, slash, _ = self.repository.partition("/")
        return first if slash and (set(first) & {".", ":"} or first == "localhost") else "docker.io"

    def __str__(self) -> str:
        name = f"{self.repository}{f':{self.tag}' if self.tag else ''}{f'@{self.digest}' if self.digest else ''}"
        if self.transport is Transport.REGISTRY:
            return f"docker://{name}"
        return f"{self.transport}:{self.path}{f':{self.tag}' if self.tag else ''}"


def parse(text: str) -> Source:
    """Read a source. Raises `Refused`."""
    transport, colon, rest = text.partition(":")
    if len(text) > _LIMIT or not colon or transport not in list(Transport):
        raise Refused(f"{text[:200]!r} is not a container image", _HINT)
    kind = Transport(transport)
    if kind is not Transport.REGISTRY:
        path, tag = _split_path(rest)
        if not path:
            raise Refused(f"{text!r} is not a container image: the path is missing", _HINT)
        source = Source(kind, Path(path).absolute(), tag=tag)
        line(str(source), "the source", _LIMIT * 8)  # it becomes a note in the library's index
        return source
    match = _REMOTE.fullmatch(rest.removeprefix("//"))
    if not rest.startswith("//") or match is None:
        raise Refused(
            f"{text!r} is not a container image in a registry", "write docker://HOST/NAME:TAG or docker://HOST/NAME@sha256:DIGEST"
        )
    return Source(kind, repository=match["repository"], tag=match["tag"] or "", digest=match["digest"] or "")


def _split_path(text: str) -> tuple[str, str]:
    """A path and the name after it. If a file with the whole text as its name exists, the colon belongs to the path."""
    if ":" not in text or Path(text).exists():
        return text, ""
    path, _, tag = text.partition(":")
    return path, tag


def default_name(source: Source, found: str) -> Name:
    """The default name of an image; `found` is the container image's name at its source. Raises `Refused`."""
    repository, tag = source.repository, source.tag
    if source.transport is not Transport.REGISTRY:
        repository, _, tag = _last(found) if "/" in found or ":" in found else (source.path.name.partition(".")[0], "", found)
    name = repository.rpartition("/")[2]
    try:
        return parse_name(f"{name.lower()}:{tag}" if tag else name.lower())
    except Refused as error:
        raise Refused(f"no image name can be made from {source}", "add one after it: NAME:TAG") from error


def _last(reference: str) -> tuple[str, str, str]:
    return reference.rpartition("/")[2].partition("@")[0].partition(":")
