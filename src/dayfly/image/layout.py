"""The files of a library, and its index: an OCI image layout.

The index keeps whatever other tools wrote into it. Reading it needs no lock, since it is replaced whole; changing it does.
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
"""What the names of annotations begin with that note where an image came from."""
_VERSION = "1.0.0"
_INDEX_LIMIT = 16 * 1024**2
_ENTRY_LIMIT = 20_000
_MARKER_LIMIT = 4096


@dataclass(frozen=True)
class Layout:
    """Where a library keeps what."""

    folder: Path

    @property
    def marker(self) -> Path:
        """The file that makes a folder an OCI layout."""
        return self.folder / disknames.OCI_LAYOUT

    @property
    def index(self) -> Path:
        """Which images there are, and their names."""
        return self.folder / disknames.OCI_INDEX

    @property
    def blobs(self) -> Path:
        """Everything else, by content."""
        return self.folder / disknames.SHA256_BLOBS

    @property
    def lock(self) -> Path:
        """Held while the index changes."""
        return self.folder / disknames.LIBRARY_LOCK

    @property
    def adding(self) -> Path:
        """Held shared by whoever adds blobs, exclusively by the garbage collection."""
        return self.folder / disknames.ADDING_LOCK

    @property
    def verified(self) -> Path:
        """Fingerprints of blobs that were found to be what their names say."""
        return self.folder / disknames.VERIFIED

    @property
    def work(self) -> Path:
        """Builds under way."""
        return self.folder / disknames.WORK

    @property
    def pulls(self) -> Path:
        """What was fetched of images that are not whole yet, by their digests."""
        return self.folder / disknames.PULLS

    @property
    def trust(self) -> Path:
        """What is known of signed lists. Not to be deleted with `.dayfly`: without it, what they brought would be nobody's."""
        return self.folder / disknames.TRUST

    def blob(self, digest: str) -> Path:
        """The file of a blob. Raises `Refused` for what is no digest, so that no path leaves the folder."""
        if not is_digest(digest):
            raise Refused(f"{digest!r} is not a sha256 digest")
        return self.blobs / digest.removeprefix("sha256:")

    def create(self, *, public: bool) -> None:
        """Make the folders and files of an empty library, where they are missing. All may read a `public` one.

        Raises `PermissionError` also where all are there and cannot be written to.
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
        """Whether there is a library at all. Raises `Corrupt` when what is there is none, or one of a format not known."""
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
                f"the library {self.folder} has the OCI layout version {version!r}; known is 1.0.0", "use a newer Dayfly"
            )
        return True


@dataclass(frozen=True)
class Entry:
    """One manifest that the index lists, as it stands there and as far as it was understood."""

    descriptor: Descriptor
    raw: Mapping[str, object]

    @property
    def name(self) -> str:
        """The image's name in this library (`debian:12`), or nothing."""
        return self.descriptor.annotations.get(REF_NAME, "")

    @property
    def source(self) -> str:
        """From where the image came, where that was noted (`docker://registry.example.org/app:1`), or nothing.

        Such a note speaks for no signed list.
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
        """The images whose digest begins so, each once."""
        found = {entry.descriptor.digest: entry for entry in self.entries if entry.descriptor.digest.startswith(digest)}
        return list(found.values())

    def names(self, digest: str) -> tuple[str, ...]:
        """All names that the image with this digest has."""
        return tuple(entry.name for entry in self.entries if entry.name and entry.descriptor.digest == digest)

    def sources(self, digest: str) -> tuple[str, ...]:
        """From where this image came, as far as its entries note that (`dayfly.image.origin`), each once."""
        return tuple(dict.fromkeys(entry.source for entry in self.entries if entry.source and entry.descriptor.digest == digest))

    def adding(self, digest: str, size: int, name: str, annotations: Mapping[str, str] | None = None) -> Index:
        """With one image more, and what is to be known of it. Whichever had its name keeps its place, without a name.

        What was known of this image while it had no name goes over to the new name.
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
        """With an artifact that is no image of ours."""
        return self._with([*self.entries, Entry(descriptor, descriptor.render())])

    def without_name(self, name: str) -> Index:
        """Without this name; the image stays only where it has another one."""
        return self._with([entry for entry in self.entries if entry.name != name])

    def without(self, digest: str) -> Index:
        """Without this image, under whatever names."""
        return self._with([entry for entry in self.entries if entry.descriptor.digest != digest])

    def without_unnamed(self) -> Index:
        """Without the images that no name means any more. What other tools attached to an image (signatures) stays."""
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
    """The index of a library; an empty one where there is no library yet. Raises `Corrupt`."""
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
    """Raise `Refused` for what could not be read back from the index: it would take all other images with it."""
    Fields({"annotations": dict(annotations)}, "the index").table("annotations", entries=256, limit=4096)


@contextlib.contextmanager
def changing(layout: Layout) -> Iterator[list[Index]]:
    """Change the index under its lock: the block puts the new one last into the list, and it is written if it differs."""
    with files.locked(layout.lock):
        index = read_index(layout)
        versions = [index]
        yield versions
        if versions[-1] != index or not layout.index.exists():
            files.write(layout.index, render_index(versions[-1]))


def missing(image: str, where: str) -> NotFound:
    """There is no such image in a library. Slurm's hook says this too."""
    return NotFound(f"there is no image {image} in the {where}", "`dayfly image list` shows those that there are")


def resolve(index: Index, name: str, digest: str, where: str) -> Entry:
    """The image meant, by digest (or the beginning of one) where there is one, else by name. Raises `NotFound` or `Refused`."""
    if digest:
        found = index.starting(digest)
        if len(found) > 1:
            raise Refused(f"{digest} is the beginning of {len(found)} digests in the {where}", "write more digits of it")
        if found:
            return found[0]
        raise missing(digest, where)
    entry = index.find(name)
    if entry is None:
        raise missing(name, where)
    return entry
