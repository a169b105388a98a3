"""Containers made byte by byte, also such as no tool would make."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Member = tuple[tarfile.TarInfo, bytes]
OCI = "application/vnd.oci.image"
TIME = 1_700_000_000


def member(name: str, kind: bytes, content: bytes = b"", **about: Any) -> Member:
    """One entry of a layer; `about` is TarInfo's: mode, uid, gid, mtime, linkname, pax_headers."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mtime = kind, len(content), TIME
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for attribute, value in about.items():
        setattr(info, attribute, value)
    return info, content


def file(name: str, content: bytes = b"", **about: Any) -> Member:
    return member(name, tarfile.REGTYPE, content, **about)


def folder(name: str, **about: Any) -> Member:
    return member(name, tarfile.DIRTYPE, **about)


def link(name: str, target: str, **about: Any) -> Member:
    return member(name, tarfile.SYMTYPE, linkname=target, **about)


def hard(name: str, target: str) -> Member:
    return member(name, tarfile.LNKTYPE, linkname=target)


def tar(*members: Member) -> bytes:
    """A layer."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:", format=tarfile.PAX_FORMAT, errors="surrogateescape") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return target.getvalue()


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def config(layers: Iterable[bytes], run: Mapping[str, object] | None = None, **others: object) -> bytes:
    """A container's config; `run` is its member `config`."""
    whole = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2026-01-02T03:04:05.678Z",
        "config": dict(run or {}),
        "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
    }
    return json.dumps({**whole, **others}).encode()


def packed(layer: bytes) -> bytes:
    return gzip.compress(layer, 1, mtime=0)


class Layout:
    """An OCI image layout in a folder, to be filled with whatever a test wants."""

    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "blobs/sha256").mkdir(parents=True)
        (place / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self.listed: list[dict[str, Any]] = []
        self.index()

    def blob(self, content: bytes, media_type: str, **changes: Any) -> dict[str, Any]:
        """Store a blob: its descriptor, with `changes`."""
        (self.place / "blobs/sha256" / digest(content).removeprefix("sha256:")).write_bytes(content)
        return {"mediaType": media_type, "digest": digest(content), "size": len(content), **changes}

    def index(self) -> None:
        content = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": self.listed}
        (self.place / "index.json").write_text(json.dumps(content))

    def add(
        self,
        layers: Sequence[bytes],
        tag: str = "latest",
        *,
        run: Mapping[str, object] | None = None,
        pack: Callable[[bytes], bytes] = packed,
        layer_type: str = f"{OCI}.layer.v1.tar+gzip",
        change: Callable[[dict[str, Any]], object] = lambda manifest: None,
        whole_config: bytes = b"",
    ) -> str:
        """Add a container, whose manifest `change` may change: its digest."""
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": self.blob(whole_config or config(layers, run), f"{OCI}.config.v1+json"),
            "layers": [self.blob(pack(layer), layer_type) for layer in layers],
        }
        change(manifest)
        described = self.blob(json.dumps(manifest).encode(), f"{OCI}.manifest.v1+json")
        self.listed.append({**described, "annotations": {"org.opencontainers.image.ref.name": tag}})
        self.index()
        return str(described["digest"])

    def add_index(self, manifests: list[dict[str, Any]], tag: str = "latest") -> None:
        """Add an index of these manifests."""
        content = json.dumps({"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": manifests}).encode()
        described = self.blob(content, f"{OCI}.index.v1+json")
        self.listed.append({**described, "annotations": {"org.opencontainers.image.ref.name": tag}})
        self.index()


def layout(place: Path, *layers: bytes, **options: Any) -> Layout:
    """A layout with one container."""
    made = Layout(place)
    made.add(layers, **options)
    return made


def docker_archive(path: Path, layers: Sequence[bytes], tags: Sequence[str] = ("site/app:1",), **options: Any) -> Path:
    """What `docker save` writes; `pack` packs its layers."""
    pack: Callable[[bytes], bytes] = options.pop("pack", lambda layer: layer)
    named = {f"{digest(layer)[7:19]}/layer.tar": pack(layer) for layer in layers}
    content = config(layers, options.pop("run", None))
    manifest = [{"Config": "config.json", "RepoTags": list(tags), "Layers": list(named)}]
    files = {"config.json": content, "manifest.json": json.dumps(manifest).encode(), **named}
    path.write_bytes(tar(*(file(name, body) for name, body in files.items())))
    return path
