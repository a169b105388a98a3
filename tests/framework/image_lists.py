"""Signed lists of images: an endorser who publishes some, and a library that follows."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dayfly.cli import main
from dayfly.errors import DayflyError
from dayfly.image import archive
from dayfly.image.library import Library, Source
from dayfly.image.manifest import Role
from dayfly.image.reference import Name, parse
from dayfly.units import format_time
from tests.framework.authority import Authority, Endorser
from tests.unit.image.examples import CONFIG, LAYERS


@dataclass
class World:
    """An endorser's folder of published files, and a library that follows."""

    folder: Path
    authority: Authority
    ada: Endorser
    library: Library
    source: Library
    images: dict[str, Path] = field(default_factory=dict)

    @property
    def place(self) -> Path:
        return self.folder / "published/site.smime"

    def image(self, name: str, number: int) -> dict[str, Any]:
        """An entry of a list, for an image of its own."""
        layers = {**LAYERS, Role.ROOT: Source("erofs", f"root {number}".encode() * 1000)}
        self.source.add(CONFIG, layers, Name(*name.split(":")))
        path = self.place.parent / f"{name.replace(':', '-')}-{number}.oci.tar"
        packed = archive.pack(self.source, parse(name), path)
        return self.entry(name, path) | {"sl:checksum:sha512": packed.checksums["sha512"]}

    def entry(self, name: str, path: Path) -> dict[str, Any]:
        return {
            "dc:identifier": f"id-{name.replace(':', '-')}",
            "dc:title": name,
            "hv:uri": f"file://{path}",
            "hv:size": path.stat().st_size,
            "hv:version": "1",
            "hv:format": "dayfly-oci",
            "sl:checksum:sha512": hashlib.sha512(path.read_bytes()).hexdigest(),
        }

    def list(self, *images: dict[str, Any], **changes: Any) -> bytes:
        now = int(time.time())
        x509 = {"hv:dn": self.ada.name, "hv:ca": self.ada.issuer, "hv:email": "", "dc:creator": "Ada"}
        fields = {
            "dc:identifier": "the-list",
            "dc:title": "Images for tests",
            "dc:date:created": format_time(now - 60),
            "dc:date:expires": format_time(now + 86400),
            "hv:version": "1.2",
            "hv:endorser": {"hv:x509": x509 | changes.pop("x509", {})},
            "hv:images": [{"hv:image": image} for image in images],
        }
        return json.dumps({"hv:imagelist": fields | {name.replace("__", ":"): value for name, value in changes.items()}}).encode()

    def offer(self, message: bytes) -> None:
        self.place.write_bytes(message)

    def subscribe(self, *words: object) -> int:
        trusted = () if "--ca" in words else ("--ca", self.authority.certificate)
        endorser = () if "--endorser" in words else ("--endorser", self.ada.name)
        return main(["trust", "subscribe", str(self.place), *map(str, (*trusted, *endorser, *words))])

    def run(self, name: str) -> str:
        """What a job does first: the image's digest, or why it is not run."""
        try:
            with self.library.open(parse(name)) as image:
                return image.digest
        except DayflyError as error:
            return error.message

    def everything(self) -> dict[str, bytes]:
        """All that the library has in files, but for its locks."""
        return {
            str(path.relative_to(self.library.layout.folder)): path.read_bytes()
            for path in self.library.layout.folder.rglob("*")
            if path.is_file() and path.name not in ("lock", ".lock", "adding")
        }
