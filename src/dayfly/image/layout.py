"""The files of a library, and its index: an OCI image layout.

The index preserves what other tools wrote into it. Reading it needs no lock, since it is replaced atomically; changing it does.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from dayfly import disknames, files
from dayfly.errors import Corrupt, NotFound, Refused
from dayfly.image.fields import Fields, decode, encode
from dayfly.image.manifest import ARTIFACT_TYPE, INDEX_TYPE, MANIFEST_TYPE, Descriptor, parse_descriptor
from dayfly.image.reference import is_digest
from dayfly.values import dataclass, field

REF_NAME = "org.opencontainers.image.ref.name"
ORIGIN = "org.dayfly.origin."
"""The prefix of annotations that note an image's origin."""
_VERSION = "1.0.0"
_INDEX_LIMIT = 16 * 1024**2
_ENTRY_LIMIT = 20_000
_MARKER_LIMIT = 4096


@dataclass(frozen=True)
class Layout:
    """The paths of a library."""

    folder: Path

    @property
    def marker(self) -> Path:
        """The file that makes a folder an OCI layout."""
        return self.folder / disknames.OCI_LAYOUT

    @property
    def index(self) -> Path:
        """The list of images and their names."""
        return self.folder / disknames.OCI_INDEX

    @property
    def blobs(self) -> Path:
        """The folder of blobs, by digest."""
        return self.folder / disknames.SHA256_BLOBS

    @property
    def lock(self) -> Path:
        """The lock held while the index changes."""
        return self.folder / disknames.LIBRARY_LOCK

    @property
    def adding(self) -> Path:
        """The lock held shared by processes that add blobs, exclusively by garbage collection."""
        return self.folder / disknames.ADDING_LOCK

    @property
    def verified(self) -> Path:
        """Fingerprints of blobs that were found to match their digests."""
        return self.folder / disknames.VERIFIED

    @property
    def work(self) -> Path:
        """Builds in progress."""
        return self.folder / disknames.WORK

    @property
    def pulls(self) -> Path:
        """Partial downloads of images, by digest."""
        return self.folder / disknames.PULLS

    @property
    def trust(self) -> Path:
        """The state of signed lists. It is outside of `.dayfly`, which may be deleted: without it, nobody endorses the images
        that came by lists.
        """
        return self.folder / disknames.TRUST

    def blob(self, digest: str) -> Path:
        """The file of a blob. Raises `Refused` if it is not a digest, so that no path leaves the folder."""
        if not is_digest(digest):
            raise Refused(f"{digest!r} is not a sha256 digest")
        return self.blobs / digest.removeprefix("sha256:")

    def create(self, *, public: bool) -> None:
        """Make the folders and files of an empty library, where they are missing. Everybody may read a `public` one.

        Raises `PermissionError` also if all exist and are not writable.
        """
        for folder in (
            self.folder,
            self.folder / disknames.BLOBS,
            self.blobs,
            self.folder / disknames.OWN,
            self.verified,
            self.work,
        ):
            if not folder.is_dir():
                folder.mkdir(parents=True, exist_ok=True)
                if public:
                    folder.chmod(0o755)
            elif not os.access(folder, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        if not self.marker.exists():
            files.write(self.marker, encode({"imageLayoutVersion": _VERSION}))

    def exists(self) -> bool:
        """Whether there is a library. Raises `Corrupt` if the folder holds something else, or a library of an unknown format."""
        try:
            fields = decode(files.read(self.marker, _MARKER_LIMIT), str(self.marker))
            version = fields.text("imageLayoutVersion", limit=64)
        except (FileNotFoundError, NotADirectoryError):
            if self.index.exists():
                raise Corrupt(f"{self.folder} has an index.json, but no file oci-layout") from None
            return False
        except Refused as error:
            raise Corrupt(f"the library {self.folder} cannot be read: {error.message}") from error
        if version.split(".")[0] != "1":
            raise Corrupt(
                f"the library {self.folder} has the OCI layout version {version!r}; only 1.0.0 is supported", "use a newer Dayfly"
            )
        return True


@dataclass(frozen=True)
class Entry:
    """One manifest in the index: the raw entry, and the parts that Dayfly reads."""

    descriptor: Descriptor
    raw: Mapping[str, object]

    @property
    def name(self) -> str:
        """The image's name in this library (`debian:12`), or nothing."""
        return self.descriptor.annotations.get(REF_NAME, "")

    @property
    def source(self) -> str:
        """Where the image came from, if noted (`docker://registry.example.org/app:1`), or nothing.

        A note never stands for a signed list.
        """
        source = self.descriptor.annotations.get(f"{ORIGIN}source", "")
        return "" if source.startswith("list:") else source

    def unnamed(self) -> Entry:
        """The same manifest without its name."""
        kept = {key: value for key, value in self.descriptor.annotations.items() if key != REF_NAME}
        return _entry(self.descriptor, kept, self.raw)

    def named(self, name: str) -> Entry:
        """The same manifest under this name."""
        return _entry(self.descriptor, {**self.descriptor.annotations, REF_NAME: name}, self.raw)


def _entry(descriptor: Descriptor, annotations: Mapping[str, str], raw: Mapping[str, object]) -> Entry:
    changed = {key: value for key, value in raw.items() if key != "annotations"}
    changed |= {"annotations": dict(annotations)} if annotations else {}
    return Entry(Descriptor(descriptor.media_type, descriptor.digest, descriptor.size, annotations), changed)


@dataclass(frozen=True)
class Index:
    """The images of a library."""

    entries: tuple[Entry, ...] = ()
    others: Mapping[str, object] = field(default_factory=dict)

    def find(self, name: str) -> Entry | None:
        """The image with this name."""
        return next((entry for entry in self.entries if entry.name == name), None)

    def starting(self, digest: str) -> list[Entry]:
        """The images whose digest has this prefix, each once."""
        found = {entry.descriptor.digest: entry for entry in self.entries if entry.descriptor.digest.startswith(digest)}
        return list(found.values())

    def names(self, digest: str) -> tuple[str, ...]:
        """All names that the image with this digest has."""
        return tuple(entry.name for entry in self.entries if entry.name and entry.descriptor.digest == digest)

    def sources(self, digest: str) -> tuple[str, ...]:
        """Where this image came from, as noted by its entries (`dayfly.image.origin`), each once."""
        return tuple(dict.fromkeys(entry.source for entry in self.entries if entry.source and entry.descriptor.digest == digest))

    def adding(self, digest: str, size: int, name: str, annotations: Mapping[str, str] | None = None) -> Index:
        """The index with one more image and its annotations. An image that had the name stays, without a name.

        Annotations of this image without a name move to the new name.
        """
        raw = {"mediaType": MANIFEST_TYPE, "artifactType": ARTIFACT_TYPE, "digest": digest, "size": size}
        unnamed = next((entry for entry in self.entries if not entry.name and entry.descriptor.digest == digest), None)
        known = unnamed.descriptor.annotations if unnamed else {}
        new = _entry(Descriptor(MANIFEST_TYPE, digest, size), {**known, **(annotations or {})}, raw)
        if name:
            new = new.named(name)
        kept = [entry.unnamed() if name and entry.name == name else entry for entry in self.entries]
        return self._with([*(entry for entry in kept if entry.name or entry.descriptor.digest != digest), new])

    def listing(self, descriptor: Descriptor) -> Index:
        """The index with an artifact that is not a Dayfly image."""
        return self._with([*self.entries, Entry(descriptor, descriptor.render())])

    def without_name(self, name: str) -> Index:
        """The index without this name; the image stays only if it has another name."""
        return self._with([entry for entry in self.entries if entry.name != name])

    def without(self, digest: str) -> Index:
        """The index without this image, under any name."""
        return self._with([entry for entry in self.entries if entry.descriptor.digest != digest])

    def without_unnamed(self) -> Index:
        """The index without images that have no name any more. Artifacts of other tools (signatures) stay."""
        return self._with([entry for entry in self.entries if entry.name or entry.raw.get("artifactType") != ARTIFACT_TYPE])

    def _with(self, entries: list[Entry]) -> Index:
        return Index(tuple(entries), self.others)


def parse_index(content: bytes, place: str = disknames.OCI_INDEX) -> Index:
    """Read an index. Raises `Refused`."""
    fields = decode(content, place)
    fields.number("schemaVersion", 2, 2)
    entries = []
    for position, element in enumerate(fields.items("manifests", _ENTRY_LIMIT)):
        inner = Fields.of(element, f"{place}.manifests[{position}]")
        entries.append(Entry(parse_descriptor(inner), inner.values))
    others = {key: value for key, value in fields.values.items() if key not in ("schemaVersion", "manifests")}
    return Index(tuple(entries), others)


def render_index(index: Index) -> bytes:
    """The index as a file."""
    manifests = [dict(entry.raw) for entry in index.entries]
    return encode({"mediaType": INDEX_TYPE, **index.others, "schemaVersion": 2, "manifests": manifests})


def read_index(layout: Layout) -> Index:
    """The index of a library; empty if there is no library yet. Raises `Corrupt`."""
    if not layout.exists():
        return Index()
    try:
        return parse_index(files.read(layout.index, _INDEX_LIMIT), str(layout.index))
    except FileNotFoundError:
        return Index()
    except Refused as error:
        hint = "restore index.json, or move the folder away"
        raise Corrupt(f"the library {layout.folder} cannot be read: {error.message}", hint) from error


def check_annotations(annotations: Mapping[str, str]) -> None:
    """Raise `Refused` for annotations that could not be read back from the index: they would make all other images unreadable."""
    Fields({"annotations": dict(annotations)}, "the index").table("annotations", entries=256, limit=4096)


@contextlib.contextmanager
def changing(layout: Layout) -> Iterator[list[Index]]:
    """Change the index under its lock: the block appends the new index to the list, and it is written if it differs."""
    with files.locked(layout.lock):
        index = read_index(layout)
        versions = [index]
        yield versions
        if versions[-1] != index or not layout.index.exists():
            files.write(layout.index, render_index(versions[-1]))


def missing(image: str, where: str) -> NotFound:
    """The error for an image that is not in a library. Slurm's hook uses the same words."""
    return NotFound(f"there is no image {image} in the {where}", "`dayfly image list` shows the images")


def resolve(index: Index, name: str, digest: str, where: str) -> Entry:
    """The image, by digest (or its prefix) if there is one, else by name. Raises `NotFound` or `Refused`."""
    if digest:
        found = index.starting(digest)
        if len(found) > 1:
            raise Refused(f"{digest} is the beginning of {len(found)} digests in the {where}", "write more digits")
        if found:
            return found[0]
        raise missing(digest, where)
    entry = index.find(name)
    if entry is None:
        raise missing(name, where)
    return entry
