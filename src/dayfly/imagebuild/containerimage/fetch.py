"""Fetches container images from registries, by skopeo."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from dayfly import process
from dayfly.errors import Corrupt, Refused
from dayfly.image.reference import DEFAULT_TAG
from dayfly.imagebuild.containerimage import layouts
from dayfly.imagebuild.containerimage.layouts import Container
from dayfly.imagebuild.containerimage.manifest import LIMIT, Manifest, parse_manifest
from dayfly.imagebuild.containerimage.source import Source
from dayfly.imagebuild.containerimage.tree import Limits
from dayfly.imagebuild.skopeo import SLACK, Access, Skopeo
from dayfly.units import format_size


def fetch(source: Source, access: Access, limits: Limits, folder: Path, progress: Callable[[str], None]) -> Container:
    """Fetch a container image into a new folder.

    Raises `NotFound`, `Refused` if it is not for this platform or larger than the limit, `DayflyError`.
    """
    process.find("skopeo")
    folder.mkdir()
    skopeo = Skopeo(folder, access, source.host)
    progress(f"registry: looking for {source}")
    manifest, digest = _manifest(skopeo, source, limits)
    size = sum(blob.size for blob in (manifest.config, *manifest.layers))
    if size > limits.size:
        raise Refused(
            f"{source} is {format_size(size, limits.size)}, more than the limit of {format_size(limits.size)}",
            "--max-size raises it",
        )
    progress(f"registry: fetching {len(manifest.layers)} layers, {format_size(size)}")
    target = folder / "container"
    words = ["copy", "--quiet", *skopeo.options("src-"), f"docker://{source.repository}@{digest}", f"dir:{target}"]
    largest = max(blob.size for blob in (manifest.config, *manifest.layers)) + SLACK
    skopeo.receive(words, "output", most=size + SLACK * 8, largest=largest)
    return layouts.in_fetched(manifest, digest, target, str(source))


def _manifest(skopeo: Skopeo, source: Source, limits: Limits) -> tuple[Manifest, str]:
    """The manifest for this platform, and its digest."""
    expected = source.digest
    wanted = f"docker://{source.repository}{f'@{expected}' if expected else f':{source.tag or DEFAULT_TAG}'}"
    for attempt in range(layouts.DEPTH):
        words = ["inspect", "--raw", *skopeo.options(""), wanted]
        content = skopeo.receive(words, f"manifest{attempt}", most=16 * LIMIT, largest=2 * LIMIT)
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if expected and digest != expected:
            raise Corrupt(f"{skopeo.host} sent a manifest other than {expected}")
        found = parse_manifest(content, str(source), limits.layers)
        if isinstance(found, Manifest):
            return found, digest
        expected = found.digest
        wanted = f"docker://{source.repository}@{expected}"
    raise Refused(f"{source} is more than {layouts.DEPTH} indexes deep")
