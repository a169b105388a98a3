"""The disk in an OVA: a tar archive with a description of a virtual machine (OVF, DSP0243) and its disks.

The description is not used: CPUs, memory and devices are the job's. The files are compared with the manifest. This detects damage
in transit, but does not show who made the archive: whoever changes a disk can change the manifest too.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from typing import BinaryIO

from dayfly import tar
from dayfly.errors import Corrupt, Refused
from dayfly.image.inspection.texts import shown

_MEMBERS = 64
_MANIFEST_LIMIT = 64 * 1024
_NAME_LIMIT = 255
_CHUNK = 1024**2
_OTHERS = (".ovf", ".mf", ".cert", ".nvram", ".xml")
"""Suffixes of the files that are not disks, in any case."""
_TAGGED = re.compile(r"SHA-?(?:2-)?(1|256|384|512)\s*\((.+)\)\s*=\s*([0-9a-f]+)", re.IGNORECASE)
"""A line by DSP0243 (section 6, "OVF package"), `SHA256(disk.vmdk)= …`; some tools write more blanks, or lower case."""
_PLAIN = re.compile(r"([0-9a-f]+) [ *](.+)", re.IGNORECASE)
"""A line as sha256sum writes it."""
_DIGITS = {40: "sha1", 64: "sha256", 96: "sha384", 128: "sha512"}


@dataclass(frozen=True)
class Member:
    """A file in the archive."""

    name: str
    offset: int
    size: int

    def ends(self, *suffixes: str) -> bool:
        """Whether its name has one of these suffixes, in any case."""
        return self.name.lower().endswith(suffixes)


@dataclass(frozen=True)
class Digest:
    """A line of a manifest. `algorithm` is named as in `hashlib`."""

    name: str
    algorithm: str
    value: str


def disk_in(archive: BinaryIO, what: str) -> Member:
    """The only disk of an archive, compared with the manifest if there is one. Raises `Refused`, `Corrupt`."""
    try:
        members = [_checked(member) for member in tar.members(archive, _MEMBERS)]
    except Refused as error:
        raise Refused(f"{what} cannot be read as an OVA: {error.message}", error.hint) from error
    names = [member.name for member in members]
    if len(set(names)) != len(names):
        raise Refused(f"{what} is damaged: it has a file twice")
    if not any(member.ends(".ovf") for member in members):
        raise Refused(f"{what} is an archive, but not an OVA: it has no description (.ovf)")
    disks = [member for member in members if not member.ends(*_OTHERS)]
    if len(disks) != 1:
        raise Refused(f"{what} has {len(disks)} disks; an image needs exactly one", "unpack it, and import one of the disks")
    manifests = [member for member in members if member.ends(".mf")]
    if len(manifests) > 1:
        raise Refused(f"{what} has {len(manifests)} manifests; an OVA has at most one")
    for manifest in manifests:
        _compare(archive, manifest, members, disks[0], what)
    return disks[0]


def _checked(member: tar.Member) -> Member:
    name = member.name.removeprefix("./")
    if member.whole is None:
        raise Refused(f"it has something that is not a regular file: {shown(member.name, 200)!r}")
    if not name.isprintable() or "/" in name or name in ("", "..") or len(name) > _NAME_LIMIT:
        hint = "an OVA may not have folders, or control characters in names: unpack it, and import its disk"
        raise Refused(f"it has a file with an invalid name: {shown(member.name, 200)!r}", hint)
    _, offset, size = member.whole
    return Member(name, offset, size)


def _compare(archive: BinaryIO, manifest: Member, members: list[Member], disk: Member, what: str) -> None:
    """Raise `Corrupt` for a file that does not match the manifest, `Refused` for a manifest without the disk."""
    if manifest.size > _MANIFEST_LIMIT:
        raise Refused(f"{what} has a manifest of {manifest.size} bytes, more than the limit of {_MANIFEST_LIMIT}")
    digests = parse_manifest(os.pread(archive.fileno(), manifest.size, manifest.offset), f"{manifest.name} in {what}")
    if all(digest.name != disk.name for digest in digests):
        raise Refused(
            f"{manifest.name} in {what} has no line for {disk.name}",
            "the disk cannot be checked: unpack the OVA, and import the disk if you trust it",
        )
    for member in members:
        for digest in digests:
            if digest.name == member.name and _digest(archive, member, digest.algorithm) != digest.value:
                raise Corrupt(f"{member.name} in {what} does not match the manifest", "fetch or export it again")


def parse_manifest(content: bytes, place: str) -> list[Digest]:
    """The lines of a manifest. Raises `Refused` for a line that is not a file's SHA-1 or SHA-2."""
    found = []
    for number, line in enumerate(content.decode("utf-8-sig", "surrogateescape").splitlines(), start=1):
        text = line.strip()
        if not text:
            continue
        tagged, plain = _TAGGED.fullmatch(text), _PLAIN.fullmatch(text)
        if tagged:
            algorithm, name, value = f"sha{tagged[1]}", tagged[2].strip(), tagged[3]
        elif plain:
            algorithm, name, value = _DIGITS.get(len(plain[1]), ""), plain[2].strip(), plain[1]
        else:
            algorithm = name = value = ""
        if _DIGITS.get(len(value)) != algorithm or not name:
            raise Refused(
                f"{place} cannot be read: line {number} is {shown(text, 80)!r}",
                "each line is the SHA1, SHA256, SHA384 or SHA512 of a file, like SHA256(disk.vmdk)= 0123…",
            )
        found.append(Digest(name.removeprefix("./"), algorithm, value.lower()))
    return found


def _digest(archive: BinaryIO, member: Member, algorithm: str) -> str:
    checksum, done = hashlib.new(algorithm, usedforsecurity=False), 0
    while done < member.size and (chunk := os.pread(archive.fileno(), min(_CHUNK, member.size - done), member.offset + done)):
        checksum.update(chunk)
        done += len(chunk)
    return checksum.hexdigest()
