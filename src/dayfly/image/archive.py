"""An image as one file: a tar archive of an OCI layout with only that image, as skopeo's `oci-archive:`."""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dayfly import disknames, files, tar
from dayfly.errors import Refused
from dayfly.image.blobs import Part
from dayfly.image.fields import encode
from dayfly.image.layout import Index, parse_index, render_index
from dayfly.image.library import Entering, Library
from dayfly.image.manifest import CONFIG_LIMIT, MANIFEST_LIMIT, Descriptor, parse_config, parse_manifest
from dayfly.image.reference import Name, Reference

_MOST_MEMBERS = 1000
_INDEX_LIMIT = 1024 * 1024
_CHUNK = 1024 * 1024
_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{64})")
_FOLDERS = ("", ".", disknames.BLOBS, disknames.SHA256_BLOBS)
_MARKER = encode({"imageLayoutVersion": "1.0.0"})


@dataclass(frozen=True)
class Packed:
    """The archive written: the image's digest, the archive's size and checksums."""

    digest: str
    size: int
    checksums: Mapping[str, str]


def pack(library: Library, reference: Reference, target: Path) -> Packed:
    """Write an image to a file, the same bytes each time. Raises as `Library.open`, and `NoSpace`."""
    with library.open(reference) as image, files.writing(target) as descriptor:
        _, manifest, _ = library.inspect(Reference(None, image.digest, None))
        size = library.layout.blob(image.digest).stat().st_size
        index = Index().adding(image.digest, size, image.name)
        with os.fdopen(os.dup(descriptor), "w+b") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
                _add(archive, disknames.OCI_LAYOUT, _MARKER)
                _add(archive, disknames.OCI_INDEX, render_index(index))
                for blob in (image.digest, manifest.config.digest, *(layer.digest for layer in manifest.layers)):
                    _add(archive, f"blobs/sha256/{blob.removeprefix('sha256:')}", library.layout.blob(blob))
            file.flush()
            return Packed(image.digest, file.tell(), checksums(file.fileno()))


def _add(archive: tarfile.TarFile, name: str, content: bytes | Path) -> None:
    member = tarfile.TarInfo(name)
    member.mode = 0o644
    if isinstance(content, bytes):
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
        return
    with content.open("rb") as file:
        member.size = os.fstat(file.fileno()).st_size
        archive.addfile(member, file)


def checksums(descriptor: int) -> dict[str, str]:
    """The checksums of an open file, by algorithm."""
    found = {"sha512": hashlib.sha512(), "sha256": hashlib.sha256()}
    offset = 0
    while chunk := os.pread(descriptor, _CHUNK, offset):
        for checksum in found.values():
            checksum.update(chunk)
        offset += len(chunk)
    return {name: checksum.hexdigest() for name, checksum in found.items()}


def examine(path: Path, name: Name | None) -> Entering:
    """The image in an archive, to be entered into a library under this name, with every part checked. Raises `Refused`."""
    members = _members(path)
    try:
        index = parse_index(_small(members[disknames.OCI_INDEX], _INDEX_LIMIT), "the archive's index.json")
    except KeyError:
        raise Refused("the archive has no index.json: it is not an OCI archive") from None
    if len(index.entries) != 1:
        raise Refused(f"the archive has {len(index.entries)} images instead of one")
    found = index.entries[0].descriptor
    manifest = parse_manifest(_checked(members, found, MANIFEST_LIMIT), "the archive's manifest")
    parse_config(_checked(members, manifest.config, CONFIG_LIMIT), "the archive's config")
    contents = {found.digest: _part(members, found), manifest.config.digest: _part(members, manifest.config)}
    for layer in manifest.layers:
        contents[layer.digest] = part = _part(members, layer)
        if _digest(part) != layer.digest:
            raise Refused(f"the content of the archive's {layer.digest} does not match its digest")
    return Entering(found.digest, found.size, name, contents)


def _members(path: Path) -> dict[str, Part]:
    """Where the files of an archive are. Raises `Refused` for an archive with files that do not belong in an OCI layout."""
    members: dict[str, Part] = {}
    with path.open("rb") as file:
        try:
            for member in tar.members(file, _MOST_MEMBERS):
                name = member.name.removeprefix("./").rstrip("/")
                if member.kind is tar.Kind.FOLDER and name in _FOLDERS:
                    continue
                if member.whole is None or name in members or not _expected(name):
                    raise Refused(f"it has {member.name[:100]!r}, which does not belong in an OCI archive")
                _, offset, size = member.whole
                members[name] = Part(path, offset, size)
        except Refused as error:
            raise Refused(f"the archive cannot be read: {error.message}") from error
    return members


def _expected(name: str) -> bool:
    return name in (disknames.OCI_LAYOUT, disknames.OCI_INDEX) or _BLOB.fullmatch(name) is not None


def _part(members: Mapping[str, Part], wanted: Descriptor) -> Part:
    part = members.get(f"blobs/sha256/{wanted.digest.removeprefix('sha256:')}")
    if part is None or part.size != wanted.size:
        raise Refused(f"the archive has no {wanted.digest} of {wanted.size} bytes")
    return part


def _small(part: Part, limit: int) -> bytes:
    if part.size > limit:
        raise Refused(f"a part of the archive is larger than the limit of {limit} bytes")
    with part.path.open("rb") as file:
        file.seek(part.offset)
        return file.read(part.size)


def _checked(members: Mapping[str, Part], wanted: Descriptor, limit: int) -> bytes:
    content = _small(_part(members, wanted), limit)
    if f"sha256:{hashlib.sha256(content).hexdigest()}" != wanted.digest:
        raise Refused(f"the content of the archive's {wanted.digest} does not match its digest")
    return content


def _digest(part: Part) -> str:
    checksum, left = hashlib.sha256(), part.size
    with part.path.open("rb", buffering=0) as file:
        file.seek(part.offset)
        while left and (chunk := file.read(min(_CHUNK, left))):
            checksum.update(chunk)
            left -= len(chunk)
    return f"sha256:{checksum.hexdigest()}"
