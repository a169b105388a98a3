"""Seals an open image: its files are replaced by unnamed copies, compared with the digest, that nobody can change.

The owner of a library can change its files, and its notes about checked files, at any time. For an image that is allowed for its
content that is not enough (docs/decisions/0124).
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
    """Replace all open files of an image by copies in unnamed files in `folder`. The descriptors keep their numbers.

    Raises `Corrupt` if the image does not match its digest, and `NoSpace`.
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
    """A small blob's content, checked regardless of the library's notes."""
    content = files.read(layout.blob(digest), limit)
    if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
        raise _changed(digest)
    return content


def _digests(manifest: Manifest) -> set[str]:
    return {found.digest for role in Role if (found := manifest.find(role))}


def _copy(blob: OpenBlob, folder: Path) -> int:
    """A read-only descriptor of a copy."""
    target = files.unnamed(folder)
    try:
        checksum, offset = hashlib.sha256(), 0
        with files.reporting_full_disk(folder):
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
    return Corrupt(f"the content of {digest} does not match its digest", "check the rest with `dayfly image verify`")
