"""Fetches and sends an image's signatures as cosign stores them in registries: an artifact named after the image's digest."""

from __future__ import annotations

import hashlib
from pathlib import Path

from dayfly import files
from dayfly.errors import Corrupt, NotFound
from dayfly.image.layout import Index, Layout, render_index
from dayfly.image.manifest import MANIFEST_LIMIT, Descriptor
from dayfly.image.trust import cosign
from dayfly.image.trust.cosign import Signature
from dayfly.imagebuild.skopeo import SLACK, Skopeo

_NAME = "signatures"
_BLOBS = "signatures-blobs"


def fetch(skopeo: Skopeo, repository: str, digest: str) -> list[Signature]:
    """The signatures of an image in a registry. Raises `Refused` or `Corrupt` if they are malformed, `DayflyError`."""
    there = f"docker://{repository}:{cosign.tag(digest)}"
    what = f"the signatures in {skopeo.host}"
    try:
        manifest = skopeo.receive(
            ["inspect", "--raw", *skopeo.options(""), there], "output", most=16 * MANIFEST_LIMIT, largest=2 * MANIFEST_LIMIT
        )
    except NotFound:
        return []
    found = cosign.parse(manifest, what)
    if not found:
        return []
    exactly = f"docker://{repository}@sha256:{hashlib.sha256(manifest).hexdigest()}"
    words = ["copy", "--quiet", "--preserve-digests", *skopeo.options("src-"), "--dest-shared-blob-dir", _BLOBS]
    most = cosign.MOST * cosign.PAYLOAD_LIMIT
    skopeo.receive([*words, exactly, f"oci:{_NAME}:{_NAME}"], "output", most=most + SLACK * 8, largest=SLACK)
    return [Signature(_content(skopeo.folder / _BLOBS, blob, what), notes) for blob, notes in found]


def _content(folder: Path, blob: Descriptor, what: str) -> bytes:
    content = files.read(folder / blob.digest.replace(":", "/"), cosign.PAYLOAD_LIMIT)
    if f"sha256:{hashlib.sha256(content).hexdigest()}" != blob.digest:
        raise Corrupt(f"{what}: one does not match its digest")
    return content


def send(skopeo: Skopeo, repository: str, digest: str, signatures: list[Signature]) -> None:
    """Add an image's signatures to a registry. Existing ones stay. Raises as `fetch`."""
    before = fetch(skopeo, repository, digest)
    every = cosign.united(before, signatures)
    if every == before:
        return
    layout = Layout(skopeo.folder / f"{_NAME}-sent")
    layout.create(public=False)
    stored = cosign.store(layout, every)
    files.write(layout.index, render_index(Index().adding(*stored, _NAME)))
    target = f"docker://{repository}:{cosign.tag(digest)}"
    words = ["copy", "--quiet", "--preserve-digests", *skopeo.options("dest-"), f"oci:{layout.folder.name}:{_NAME}", target]
    skopeo.send(words, "output")
