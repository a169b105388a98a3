"""A container image's manifest, index and config as JSON, read strictly: those of OCI and the equivalent ones of Docker.

OCI image specification, "Image Manifest", "Image Index", "Image Configuration"; Docker's "Image Manifest Version 2, Schema 2".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from dayfly.errors import Refused
from dayfly.image.fields import Fields, decode, line
from dayfly.image.manifest import BLOB_LIMIT, INDEX_TYPE, MANIFEST_TYPE, directory
from dayfly.image.reference import is_digest

LIMIT = 4 * 1024**2
"""The most bytes of a manifest, an index or a config: the limit of registries and skopeo."""

_INDEX_TYPES = frozenset({INDEX_TYPE, "application/vnd.docker.distribution.manifest.list.v2+json"})
_MANIFEST_TYPES = frozenset({MANIFEST_TYPE, "application/vnd.docker.distribution.manifest.v2+json"})
_CONFIG_TYPES = frozenset({"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"})
_LAYER_TYPES = frozenset(
    {
        *(f"application/vnd.oci.image.layer.v1.tar{packed}" for packed in ("", "+gzip", "+zstd")),
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.diff.tar.zstd",
    }
)
_FOREIGN = re.compile(r"application/vnd\.(oci\.image\.layer\.nondistributable\..*|docker\.image\.rootfs\.foreign\..*)")
_PLATFORM = ("linux", "amd64")
_TIME = re.compile(r"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(\.\d{1,12})?(Z|[+-]\d{2}:\d{2})")
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,255})=(.*)", re.DOTALL)
_ARGUMENTS = 1024
_TEXT = 128 * 1024


@dataclass(frozen=True)
class Descriptor:
    """A blob, as a manifest describes it."""

    media_type: str
    digest: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """A container image: its config and its layers, the lowest first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True)
class ContainerConfig:
    """How a container image is run, and the digests of its unpacked layers."""

    diff_ids: tuple[str, ...]
    created: str = "1970-01-01T00:00:00Z"
    environment: Mapping[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    user: str = ""
    directory: str = "/"
    labels: Mapping[str, str] = field(default_factory=dict)


def parse_descriptor(value: object, place: str) -> Descriptor:
    """Read a descriptor. Raises `Refused`, also if its content is elsewhere on the network."""
    fields = Fields.of(value, place)
    media_type = fields.text("mediaType", limit=255)
    if _FOREIGN.fullmatch(media_type) or fields.has("urls"):
        raise Refused(
            f"{place} is only an address: its content is not in the registry", "use a container image with all of its layers"
        )
    digest = fields.values.get("digest")
    if not isinstance(digest, str) or not is_digest(digest):
        raise Refused(f"{place}.digest is not a sha256 digest")
    return Descriptor(media_type, digest, fields.number("size", 0, BLOB_LIMIT))


def parse_manifest(content: bytes, place: str, layers: int) -> Manifest | Descriptor:
    """Read a manifest of at most so many layers; for an index, the descriptor of this platform's manifest. Raises `Refused`."""
    fields = decode(content, place)
    version = fields.values.get("schemaVersion")
    if version == 1:
        raise Refused(f"{place} has the old format, Docker's schema 1", "push the container image again with a newer tool")
    fields.number("schemaVersion", 2, 2)
    media_type = fields.text("mediaType", limit=255, default="")
    if media_type in _INDEX_TYPES or (not media_type and fields.has("manifests")):
        return choose(fields.items("manifests", 1024), place)
    if media_type not in _MANIFEST_TYPES and media_type:
        raise Refused(f"{place} has the type {media_type!r}, which is not a container image's")
    config = parse_descriptor(fields.values.get("config"), f"{place}.config")
    if config.media_type not in _CONFIG_TYPES:
        raise Refused(f"{place} is not that of a container image: its config is {config.media_type!r}")
    found = tuple(parse_descriptor(value, f"{place}.layers[{at}]") for at, value in enumerate(fields.items("layers", layers)))
    for at, layer in enumerate(found):
        if layer.media_type not in _LAYER_TYPES:
            raise Refused(f"{place}.layers[{at}] has the type {layer.media_type!r}, which is not a container image's layer")
    return Manifest(config, found)


def choose(values: list[object], place: str) -> Descriptor:
    """The manifest for this platform among those of an index. Raises `Refused` with the available platforms."""
    others = []
    for at, value in enumerate(values):
        fields = Fields.of(value, f"{place}.manifests[{at}]")
        platform = fields.section("platform")
        system, machine = (platform.text(name, limit=64, default="") for name in ("os", "architecture"))
        if (system, machine) == _PLATFORM or (len(values) == 1 and not system):
            return parse_descriptor(value, f"{place}.manifests[{at}]")
        variant = platform.text("variant", limit=64, default="")
        others.append("/".join(filter(None, (system, machine, variant))) or "an unknown platform")
    there = ", ".join(sorted(set(others) - {"unknown/unknown"})) or "nothing"
    raise Refused(f"{place} has nothing for {'/'.join(_PLATFORM)}", f"it has {there}")


def parse_config(content: bytes, place: str) -> ContainerConfig:
    """Read a container image's config. Fields that Dayfly does not use are ignored. Raises `Refused`."""
    fields = decode(content, place)
    platform = tuple(fields.text(name, limit=64, default="") for name in ("os", "architecture"))
    if platform != _PLATFORM:
        raise Refused(f"{place} is that of a container image for {'/'.join(platform)}", f"use one for {'/'.join(_PLATFORM)}")
    rootfs, run = fields.section("rootfs"), fields.section("config")
    diff_ids = rootfs.items("diff_ids", 1024)
    if not all(is_digest(diff_id) for diff_id in diff_ids):
        raise Refused(f"{rootfs.place}.diff_ids has values that are not sha256 digests")
    return ContainerConfig(
        diff_ids=tuple(str(diff_id) for diff_id in diff_ids),
        created=_created(fields),
        environment=dict(_variables(run)),
        entrypoint=_words(run, "Entrypoint"),
        command=_words(run, "Cmd"),
        user=run.text("User", limit=256, default=""),
        directory=directory(run) or "/",
        labels=_labels(run),
    )


def _created(fields: Fields) -> str:
    """The date, cut to seconds and taken as UTC whatever the time zone: it is only shown."""
    match = _TIME.fullmatch(fields.text("created", limit=64, default=""))
    return f"{match[1]}Z" if match and "1970" <= match[1][:4] < "2200" else "1970-01-01T00:00:00Z"


def _variables(run: Fields) -> list[tuple[str, str]]:
    """NAME=value; a value may have several lines. Names that no shell could set are left out."""
    found = []
    for element in run.items("Env", _ARGUMENTS):
        text = _text(element, f"{run.place}.Env", 32768)
        match = _VARIABLE.fullmatch(text)
        if match:
            found.append((match[1], match[2]))
    return found


def _words(run: Fields, name: str) -> tuple[str, ...]:
    if isinstance(run.values.get(name), str):
        hint = 'write a shell command as ["/bin/sh", "-c", "LINE"]'
        raise Refused(f"{run.place}.{name} is a string; it must be a list of words", hint)
    return tuple(_text(element, f"{run.place}.{name}", _TEXT) for element in run.items(name, _ARGUMENTS))


def _text(value: object, place: str, limit: int) -> str:
    if not isinstance(value, str) or len(value) > limit or "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
        raise Refused(f"{place} has a value that is not text of at most {limit} characters")
    return value


def _labels(run: Fields) -> dict[str, str]:
    """The labels that are lines of text."""
    found = {}
    for name, value in run.section("Labels").values.items():
        try:
            found[line(name, "", 256)] = line(value, "", 4096)
        except Refused:
            continue
        if len(found) == 256:
            break
    return found
