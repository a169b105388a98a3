"""The disk in an OVA: a tar archive with a description of a virtual machine (OVF, DSP0243) and its disks.

The description is not read: CPUs, memory and devices are the job's. What the manifest in it says of the disk is compared.
"""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
from dataclasses import dataclass
from typing import BinaryIO

from dayfly.build.container.layer import BAD, Guarded
from dayfly.errors import Corrupt, Refused

_MEMBERS = 64
_MANIFEST_LIMIT = 64 * 1024
_CHUNK = 1024**2
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_ .()+-]{0,199}")
_DIGEST = re.compile(rb"^(SHA1|SHA256|SHA512)\s*\(([^)\r\n]*)\)\s*=\s*([0-9a-fA-F]+)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Member:
    """A file in the archive."""

    name: str
    offset: int
    size: int


def disk_in(archive: BinaryIO, what: str) -> Member:
    """The one disk of an archive, compared with its manifest where it has one. Raises `Refused`, `Corrupt`."""
    try:
        members = [_checked(member, what) for member in Guarded(archive).members(_MEMBERS)]
    except BAD as error:
        raise Refused(f"{what} cannot be read as an OVA: {error or type(error).__name__}") from error
    end = os.fstat(archive.fileno()).st_size
    names = [member.name for member in members]
    if len(set(names)) != len(names) or any(member.offset + member.size > end for member in members):
        raise Refused(f"{what} is damaged, or cut short: a file in it is there twice, or not whole")
    if not any(name.endswith(".ovf") for name in names):
        raise Refused(f"{what} is an archive, and no OVA: there is no description (.ovf) in it")
    disks = [member for member in members if not member.name.endswith((".ovf", ".mf", ".cert", ".nvram", ".xml"))]
    if len(disks) != 1:
        raise Refused(f"{what} has {len(disks)} disks, and an image is made of one", "unpack it, and import the one meant")
    for member in members:
        if member.name.endswith(".mf"):
            _compare(archive, member, disks[0], what)
    return disks[0]


def _checked(member: tarfile.TarInfo, what: str) -> Member:
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.size < 0:
        raise Refused(f"{what} has something in it that is no regular file: {member.name[:200]!r}")
    if not _NAME.fullmatch(member.name):
        raise Refused(f"{what} has a file in it with a name that it may not have: {member.name[:200]!r}")
    return Member(member.name, member.offset_data, member.size)


def _compare(archive: BinaryIO, manifest: Member, disk: Member, what: str) -> None:
    if manifest.size > _MANIFEST_LIMIT:
        raise Refused(f"{what} has a manifest of {manifest.size} bytes")
    for algorithm, name, value in _DIGEST.findall(os.pread(archive.fileno(), manifest.size, manifest.offset)):
        if name.decode(errors="replace") == disk.name:
            found = _digest(archive, disk, algorithm.decode().lower())
            if found != value.decode().lower():
                raise Corrupt(f"{disk.name} in {what} is not what the manifest there says")


def _digest(archive: BinaryIO, member: Member, algorithm: str) -> str:
    checksum, done = hashlib.new(algorithm, usedforsecurity=False), 0
    while done < member.size and (chunk := os.pread(archive.fileno(), min(_CHUNK, member.size - done), member.offset + done)):
        checksum.update(chunk)
        done += len(chunk)
    return checksum.hexdigest()
