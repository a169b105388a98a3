"""Names of images: `debian:12`, `sha256:…`, and which library is meant: `system/debian:12`, `user/debian:12`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from fnmatch import fnmatchcase

from dayfly.errors import Refused
from dayfly.values import dataclass

DEFAULT_TAG = "latest"
_LIMIT = 512
_CHARACTERS = r"[A-Za-z0-9._:/@+-]+"
"""The characters of a reference; Slurm's plugin checks the same at submission."""
_NAME = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_DIGEST = r"sha256:[0-9a-f]{64}"
_DIGEST_PREFIX = r"sha256:[0-9a-f]{12,64}"
_NAME_LIMIT = 128
_HINT = "write NAME:TAG, NAME@sha256:DIGEST or sha256:DIGEST, optionally with system/ or user/ for the library"


class LibraryKind(StrEnum):
    """The kind of library: the site's (`library.system` in the settings) or the user's own (`library.user`)."""

    SYSTEM = "system"
    USER = "user"


@dataclass(frozen=True)
class Name:
    """The name of an image in a library: `debian:12`."""

    name: str
    tag: str = DEFAULT_TAG

    def __str__(self) -> str:
        return f"{self.name}:{self.tag}"


@dataclass(frozen=True)
class Reference:
    """A reference to one image, as the user writes it.

    If it has a `digest` (complete, or its first digits), only that decides, and a name before it is just a comment. `library`
    is None if either library may have it.
    """

    name: Name | None
    digest: str = ""
    library: LibraryKind | None = None

    def __str__(self) -> str:
        prefix = f"{self.library}/" if self.library else ""
        if not self.digest:
            return f"{prefix}{self.name}"
        return f"{prefix}{self.name.name}@{self.digest}" if self.name else f"{prefix}{self.digest}"


def parse(text: str) -> Reference:
    """Read a reference. Raises `Refused`."""
    if len(text) > _LIMIT:
        raise Refused(f"an image's name may not be longer than {_LIMIT} characters")
    if not re.fullmatch(_CHARACTERS, text):
        raise Refused(f"{text!r} is not an image's name or digest", "write it like debian:12")
    library, slash, rest = text.rpartition("/")
    kind = _library(library, text) if slash else None
    if rest.startswith("sha256:"):
        if not re.fullmatch(_DIGEST_PREFIX, rest):
            raise Refused(f"{text!r} names no image: a digest has 64 hexadecimal digits, or its first 12 or more", _HINT)
        return Reference(None, rest, kind)
    name, at, digest = rest.partition("@")
    if at:
        if not re.fullmatch(_DIGEST, digest):
            raise Refused(f"{text!r} names no image: after @ comes sha256: and 64 hexadecimal digits", _HINT)
        return Reference(parse_name(name), digest, kind)
    return Reference(parse_name(rest), "", kind)


def _library(prefix: str, text: str) -> LibraryKind:
    try:
        return LibraryKind(prefix)
    except ValueError:
        raise Refused(f"{text!r} names no image: there is no library {prefix!r}", _HINT) from None


def parse_name(text: str) -> Name:
    """Read exactly `NAME[:TAG]`. Raises `Refused`."""
    name, colon, tag = text.partition(":")
    if not re.fullmatch(_NAME, name) or len(name) > _NAME_LIMIT or name == "sha256":
        raise Refused(
            f"{text!r} names no image: the name is lower-case letters and digits, with single . _ or - between them", _HINT
        )
    if colon and not re.fullmatch(_TAG, tag):
        raise Refused(f"{text!r} names no image: the tag may have at most 128 letters, digits, . _ or -", _HINT)
    return Name(name, tag if colon else DEFAULT_TAG)


def named_by(name: str, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns matches this image, `LIBRARY/NAME:TAG`. A pattern without a library means the system's."""
    return any(fnmatchcase(name, pattern if "/" in pattern else f"{LibraryKind.SYSTEM}/{pattern}") for pattern in patterns)


def is_digest(text: object) -> bool:
    """Whether this is a complete sha256 digest, which is safe as a file's name."""
    return isinstance(text, str) and re.fullmatch(_DIGEST, text) is not None
