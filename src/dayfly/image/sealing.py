"""An open image that nobody can change any more: copies without names of all that is open, compared with the digest.

A library's files are their owner's to change at any time, and so is what it noted of having checked them. For an image that is
allowed for what it is, that is not enough (docs/decisions/0124).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from dayfly import files
from dayfly.errors import Corrupt
from dayfly.image.layout import Layout
from dayfly.image.library import OpenBlob, OpenImage
from dayfly.image.manifest import CONFIG_LIMIT, MANIFEST_LIMIT, Manifest, Role, parse_config, parse_manifest

_CHUNK = 1024**2


def seal(image: OpenImage, folder: Path) -> None:
    """Put copies, in unnamed files in `folder`, in the place of all open files of an image. They keep their descriptors.

    Raises `Corrupt` where the image is not what its digest says, `NoSpace`.
    """
    layout = Layout(image.root.path.parent.parent.parent)
    manifest = parse_manifest(_content(layout, image.digest, MANIFEST_LIMIT))
    config = parse_config(_content(layout, manifest.config.digest, CONFIG_LIMIT))
    if config != image.config or _digests(manifest) != {blob.digest for blob in image.blobs}:
        raise _changed(image.digest)
    for blob in image.blobs:
        copy = _copy(blob, folder)
        os.dup2(copy, blob.file, inheritable=False)
        os.close(copy)


def _content(layout: Layout, digest: str, limit: int) -> bytes:
    """A small blob's content, whatever the library noted of it."""
    content = files.read(layout.blob(digest), limit)
    if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
        raise _changed(digest)
    return content


def _digests(manifest: Manifest) -> set[str]:
    return {found.digest for role in Role if (found := manifest.find(role))}


def _copy(blob: OpenBlob, folder: Path) -> int:
    """A descriptor, for reading only, of a copy."""
    target = files.unnamed(folder)
    try:
        checksum, offset = hashlib.sha256(), 0
        with files.full_disk_told(folder):
            while chunk := os.pread(blob.file, _CHUNK, offset):
                checksum.update(chunk)
                files.write_all(target, chunk)
                offset += len(chunk)
        if f"sha256:{checksum.hexdigest()}" != blob.digest:
            raise _changed(blob.digest)
        return os.open(f"/proc/self/fd/{target}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(target)


def _changed(digest: str) -> Corrupt:
    return Corrupt(f"{digest} has other content than its name says", "see what else is with `dayfly image verify`")
