"""The source of a disk, as the user writes it: `disk:FILE`, a FILE with a disk's suffix, or `https://…`."""

from __future__ import annotations

import re
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

from dayfly.errors import Refused
from dayfly.image.fields import line
from dayfly.image.reference import Name, parse_name

SUFFIXES = (".qcow2", ".raw", ".img", ".vmdk", ".vdi", ".ova")
_DISK, _HTTPS = "disk:", "https://"
_LIMIT = 4096
_CHECKSUMS = {"sha256": 64, "sha512": 128}
_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True)
class Source:
    """A disk: in a file of this host, or at an address if that is not empty. An address may have a secret in its last part."""

    path: Path
    address: str = ""

    def __str__(self) -> str:
        if not self.address:
            return f"{_DISK}{self.path}"
        return urllib.parse.urlunsplit((*urllib.parse.urlsplit(self.address)[:3], "", ""))

    def name(self) -> Name:
        """The default name of the image. Raises `Refused`."""
        stem = self.path.name
        for suffix in SUFFIXES:
            stem = stem.removesuffix(suffix)
        try:
            return parse_name(stem.lower())
        except Refused as error:
            raise Refused(f"no image name can be made from {self}", "add one after it: NAME:TAG") from error


def parse(text: str) -> Source | None:
    """Read a source; None if it is not a disk. Raises `Refused`."""
    if text.startswith(_HTTPS):
        return _address(text)
    if text.startswith(_DISK):
        path = text.removeprefix(_DISK)
    elif text.endswith(SUFFIXES) and not re.match(r"[a-z-]+:", text):
        path = text
    else:
        return None
    if not path or "\0" in path or len(path) > _LIMIT:
        raise Refused(f"{text[:200]!r} has no file name", "write disk:FILE")
    source = Source(Path(path).absolute())
    line(str(source), "the source", _LIMIT * 2)  # it becomes a note in the library's index
    return source


def _address(text: str) -> Source:
    hint = "write https://HOST/FILE, without a user name or a password"
    try:
        parts = urllib.parse.urlsplit(text)
        _ = parts.port
    except ValueError:
        raise Refused(f"{text[:200]!r} is not a valid address", hint) from None
    unprintable = not text.isascii() or not text.isprintable() or " " in text
    if unprintable or not parts.hostname or "@" in parts.netloc or len(text) > _LIMIT or not parts.path.strip("/"):
        raise Refused(f"{text[:200]!r} is not an address of a disk", hint)
    return Source(Path(urllib.parse.unquote(parts.path.rstrip("/"))), text)


@dataclass(frozen=True)
class Checksum:
    """The expected checksum of a file."""

    algorithm: str
    value: str


def parse_checksum(algorithm: str, text: str) -> Checksum:
    """Read a checksum: the digits that `sha256sum` prints, or those after `sha256:`. Raises `Refused`."""
    value = text.strip().lower().removeprefix(f"{algorithm}:")
    if len(value) != _CHECKSUMS[algorithm] or not _HEX.fullmatch(value):
        raise Refused(f"{text[:200]!r} is not a {algorithm} checksum", f"it must have {_CHECKSUMS[algorithm]} hexadecimal digits")
    return Checksum(algorithm, value)
