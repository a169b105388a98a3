"""Finds container images in an OCI image layout (a folder or a tar archive) and in the archive that `docker save` writes.

Each gives the same value, a container image whose layers are ranges of files.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dayfly import disknames, tar
from dayfly.errors import Corrupt, NotFound, Refused
from dayfly.image.fields import Fields, decode
from dayfly.imagebuild.containerimage.manifest import (
    LIMIT,
    ContainerConfig,
    Descriptor,
    Manifest,
    parse_config,
    parse_descriptor,
    parse_manifest,
)
from dayfly.imagebuild.containerimage.tree import Limits
from dayfly.imagebuild.containerimage.unpack import Blob, is_packed, unpack

_REF_NAME = "org.opencontainers.image.ref.name"
_IMAGE_NAME = "io.containerd.image.name"
_MEMBERS = 4096
_LINKS = 4
DEPTH = 4
"""The most nested indexes before a manifest."""

FindBlob = Callable[[Descriptor, str], Blob]
"""Finds a blob by its descriptor; the text is its name in messages."""


@dataclass(frozen=True)
class Container:
    """A container image that was found. `digest` is its manifest's (may be empty); `name` is its name there."""

    config: ContainerConfig
    layers: tuple[Blob, ...]
    digest: str
    name: str


def in_layout(folder: Path, tag: str, limits: Limits) -> Container:
    """The container image in a folder with an OCI image layout. Raises `NotFound`, `Refused` or `Corrupt`."""
    index = _file(folder / disknames.OCI_INDEX, f"{folder} is not an OCI image layout")
    _file(folder / disknames.OCI_LAYOUT, f"{folder} is not an OCI image layout")

    def find_blob(wanted: Descriptor, what: str) -> Blob:
        found = _file(folder / disknames.SHA256_BLOBS / wanted.digest.removeprefix("sha256:"), f"{what} is missing")
        return _checked(found, wanted, what)

    return _of_index(index, find_blob, tag, limits, str(folder))


def in_layout_archive(path: Path, tag: str, limits: Limits, work: Path) -> Container:
    """The container image in a tar archive of an OCI image layout."""
    members = _members(path, limits, work)
    if disknames.OCI_INDEX not in members:
        raise NotFound(f"{path} is not an archive of an OCI image layout: it has no index.json")

    def find_blob(wanted: Descriptor, what: str) -> Blob:
        found = members.get(f"blobs/sha256/{wanted.digest.removeprefix('sha256:')}")
        if found is None:
            raise NotFound(f"{what} is missing: {wanted.digest}")
        return _checked(found, wanted, what)

    return _of_index(members[disknames.OCI_INDEX], find_blob, tag, limits, str(path))


def in_docker_archive(path: Path, name: str, limits: Limits, work: Path) -> Container:
    """The container image in an archive of `docker save` (Docker's "Image Specification v1.2.0", "Combined Image JSON")."""
    members = _members(path, limits, work)
    if "manifest.json" not in members:
        raise NotFound(f"{path} is not an archive of docker save: it has no manifest.json")
    content = members["manifest.json"].read(LIMIT, f"manifest.json of {path}")
    listed = decode(b'{"containers":' + content + b"}", str(path)).items("containers", 1024)
    found = [Fields.of(value, f"{path}: container {at + 1}") for at, value in enumerate(listed)]
    fields, label = _named([(_tags(one), one) for one in found], name, str(path))

    def member(text: object, what: str) -> Blob:
        blob = members.get(text) if isinstance(text, str) else None
        if blob is None:
            raise NotFound(f"{what} is missing from {path}: {str(text)[:200]!r}")
        return blob

    config = parse_config(member(fields.values.get("Config"), "the config").read(LIMIT, "the config"), f"the config in {path}")
    layers = tuple(member(text, f"layer {at + 1}") for at, text in enumerate(fields.items("Layers", limits.layers)))
    return _matching(Container(config, layers, "", label), str(path))


def in_fetched(manifest: Manifest, digest: str, folder: Path, place: str) -> Container:
    """The container image of this manifest, with the blobs that skopeo wrote into a folder, each under its digest (its transport
    `dir:`).
    """

    def find_blob(wanted: Descriptor, what: str) -> Blob:
        return _checked(_file(folder / wanted.digest.removeprefix("sha256:"), f"{what} is missing"), wanted, what)

    return _of_manifest(manifest, digest, find_blob, "", place)


def _tags(fields: Fields) -> list[str]:
    return _printable(fields.items("RepoTags", 1024))


def _printable(values: Iterable[object]) -> list[str]:
    """The values that are printable names; others can be neither requested nor shown."""
    return [value for value in values if isinstance(value, str) and value.isprintable()]


def _named(listed: list[tuple[list[str], Fields]], name: str, place: str) -> tuple[Fields, str]:
    """The one with this name, or the only one, and its name."""
    found = [(fields, names) for names, fields in listed if not name or any(_means(name, one) for one in names)]
    if len(found) == 1:
        fields, names = found[0]
        return fields, next((one for one in names if name and _means(name, one)), names[0] if names else "")
    every = ", ".join(sorted({one[:100] for names, _ in listed for one in names})[:20]) or "none with a name"
    if not found:
        raise NotFound(f"there is no container image {f'{name} ' if name else ''}in {place}", f"it has: {every}")
    raise Refused(f"{place} has {len(found)} container images{f' named {name}' if name else ''}", f"add :NAME, one of: {every}")


def _means(written: str, name: str) -> bool:
    """`debian:12` means `docker.io/library/debian:12` too."""
    return name == written or name.endswith(f"/{written}")


def _of_index(index: Blob, find_blob: FindBlob, tag: str, limits: Limits, place: str) -> Container:
    fields = decode(index.read(LIMIT, f"the index of {place}"), f"the index of {place}")
    listed = []
    for at, value in enumerate(fields.items("manifests", 10_000)):
        inner = Fields.of(value, f"the index of {place}: {at + 1}")
        annotations = inner.section("annotations").values
        names = _printable(annotations.get(key) for key in (_IMAGE_NAME, _REF_NAME))
        listed.append((names, inner))
    chosen, name = _named(listed, tag, place)
    wanted = parse_descriptor(chosen.values, chosen.place)
    what = f"the manifest of {name or place}"
    for _ in range(DEPTH):
        parsed = parse_manifest(find_blob(wanted, what).read(LIMIT, what), what, limits.layers)
        if isinstance(parsed, Manifest):
            return _of_manifest(parsed, wanted.digest, find_blob, name, place)
        wanted = parsed
    raise Refused(f"{what} is more than {DEPTH} indexes deep")


def _of_manifest(manifest: Manifest, digest: str, find_blob: FindBlob, name: str, place: str) -> Container:
    config = parse_config(find_blob(manifest.config, "the config").read(LIMIT, "the config"), f"the config of {name or place}")
    layers = tuple(find_blob(layer, f"layer {at + 1}") for at, layer in enumerate(manifest.layers))
    return _matching(Container(config, layers, digest, name), place)


def _matching(container: Container, place: str) -> Container:
    if len(container.config.diff_ids) != len(container.layers):
        raise Refused(f"{place} has {len(container.layers)} layers, but its config has {len(container.config.diff_ids)}")
    return container


def _file(path: Path, otherwise: str) -> Blob:
    try:
        about = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"{otherwise}: there is no {path}") from None
    if not stat.S_ISREG(about.st_mode):
        raise Refused(f"{path} is not a regular file")
    return Blob(path, 0, about.st_size)


def _checked(blob: Blob, wanted: Descriptor, what: str) -> Blob:
    if blob.size != wanted.size:
        raise Corrupt(f"{what} has {blob.size} bytes instead of {wanted.size}: {blob.path}")
    return Blob(blob.path, blob.offset, blob.size, wanted.digest)


def _members(path: Path, limits: Limits, work: Path) -> Mapping[str, Blob]:
    """The files in an archive, by their names. A packed archive is unpacked into `work`."""
    blob = _file(path, "no such archive")
    if is_packed(blob):
        path = work / "archive.tar"
        unpack(blob, path, limit=limits.size, diff_id="", what=str(blob.path))
    try:
        return _listed(path)
    except Refused as error:
        raise Refused(f"{blob.path} cannot be read as a tar archive: {error.message}") from error


def _listed(path: Path) -> dict[str, Blob]:
    """The files in an uncompressed archive; links to others of its files are followed."""
    found: dict[str, Blob] = {}
    links: dict[str, str] = {}
    with path.open("rb") as file:
        for member in tar.members(file, _MEMBERS):
            name = _beside("", member.name)
            if member.kind in (tar.Kind.LINK, tar.Kind.HARD_LINK):
                links[name] = _beside(name if member.kind is tar.Kind.LINK else "", member.target)
            elif member.whole is not None:
                _, offset, size = member.whole
                found[name] = Blob(path, offset, size)
    for name in links:
        end = name
        for _ in range(_LINKS):
            end = links.get(end, end)
        if end in found:
            found.setdefault(name, found[end])
    return found


def _beside(name: str, target: str) -> str:
    """Where a link leads in the archive; the target is relative to the link's folder."""
    parts = name.split("/")[:-1]
    for part in target.split("/"):
        parts = parts[:-1] if part == ".." else [*parts, part] if part not in ("", ".") else parts
    return "/".join(parts)
