"""One library of images: an OCI image layout on disk, which `skopeo`, `oras` and the like can read too."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from dayfly import files
from dayfly.errors import Corrupt, DayflyError, NotFound, Refused
from dayfly.image import blobs
from dayfly.image.layout import Entry, Index, Layout, changing, check_annotations, read_index, resolve
from dayfly.image.manifest import (
    CONFIG_LIMIT,
    CONFIG_TYPE,
    FORMATS,
    MANIFEST_LIMIT,
    Descriptor,
    ImageConfig,
    Manifest,
    Role,
    layer,
    parse_config,
    parse_manifest,
    render_config,
    render_manifest,
)
from dayfly.image.reference import LibraryKind, Name, Reference
from dayfly.image.trust.lookup import provenance_of
from dayfly.image.trust.provenance import Provenance
from dayfly.values import dataclass, field

TYPE_CHECKING = False  # typing's own costs an import at every start, and checkers know the name
if TYPE_CHECKING:
    from dayfly.image.maintenance import Collected, Verified


_ATTACHED = r"sha256-[0-9a-f]{64}\.[a-z]+"
"""The names under which cosign stores artifacts of an image."""


@dataclass(frozen=True)
class Source:
    """Where a layer's content comes from, and its format (`erofs`, `elf`, `cpio`)."""

    form: str
    content: Path | bytes


@dataclass(frozen=True)
class Entering:
    """An image to be added as it is: its manifest's digest and size, its name here, and the content of its blobs by digest.

    If it is here already, there is no content, and it gets the name. `annotations` are as for `Library.add`.
    """

    digest: str
    size: int
    name: Name | None
    contents: Mapping[str, blobs.Part]
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class OpenBlob:
    """An open layer, checked and locked. `file` is the open file, `path` its name in the library."""

    path: Path
    file: int
    form: str
    digest: str
    size: int


@dataclass(frozen=True)
class OpenImage:
    """An image ready to be run. Its blobs stay until `close`, even if the image is removed meanwhile.

    `name` is the name by which it was found, `names` are all names that it has in its library. `root` is a filesystem, or the
    whole disk of an image that firmware boots; such an image has no other layer.
    """

    reference: Reference
    name: str
    names: tuple[str, ...]
    digest: str
    library: LibraryKind
    config: ImageConfig
    provenance: Provenance
    root: OpenBlob
    kernel: OpenBlob | None
    modules: OpenBlob | None
    boot_modules: OpenBlob | None
    notice: str = ""

    @property
    def blobs(self) -> tuple[OpenBlob, ...]:
        """All of its layers."""
        return tuple(blob for blob in (self.root, self.kernel, self.modules, self.boot_modules) if blob)

    def close(self) -> None:
        """Close the blobs. To be called once."""
        _close(blob.file for blob in self.blobs)

    def __enter__(self) -> OpenImage:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _close(descriptors: Iterable[int]) -> None:

    for descriptor in descriptors:
        os.close(descriptor)


@dataclass(frozen=True)
class Listed:
    """One image of a library. If it cannot be run, `config` is None and `problem` says why. `size` counts all its blobs."""

    library: LibraryKind
    name: str
    digest: str
    size: int
    config: ImageConfig | None
    problem: str = ""


class Library:
    """The images in one folder. A folder that does not exist yet is an empty library.

    `weak_lists` says whether signed lists may have signatures that are too weak (`trust.weak_lists` in the settings).
    """

    def __init__(self, folder: Path, kind: LibraryKind = LibraryKind.USER, *, weak_lists: bool = False) -> None:
        self.layout = Layout(folder)
        self.kind = kind
        self.weak_lists = weak_lists

    @property
    def title(self) -> str:
        """The library's name in messages."""
        return f"{self.kind} library {self.layout.folder}"

    def create(self) -> None:
        """Make the folder if it is missing. Raises `Refused` if that is not permitted, `Corrupt` if the folder holds something
        else.
        """
        self.layout.exists()
        try:
            self.layout.create(public=self.kind is LibraryKind.SYSTEM)
        except PermissionError as error:
            hint = "only the site's administrator adds to it" if self.kind is LibraryKind.SYSTEM else "see who owns the folder"
            raise Refused(f"the {self.title} cannot be written to", hint) from error

    def add(
        self, config: ImageConfig, layers: Mapping[Role, Source], name: Name | None, annotations: Mapping[str, str] | None = None
    ) -> str:
        """Add an image under this name and return its digest.

        An image that had the name loses it. The index is written last, so that an image is there completely or not at
        all. `annotations` are written to the index beside the name: they describe this addition, not the image. Raises
        `NoSpace`.
        """
        self.create()
        check_annotations(annotations or {})
        with self._writable(), files.locked(self.layout.adding, shared=True):
            stored = [self._layer(role, layers[role]) for role in Role if role in layers]
            content = render_config(config, stored)
            parse_config(content)  # never write what cannot be read back
            digest, size = blobs.store(self.layout, content)
            manifest = render_manifest(Manifest(Descriptor(CONFIG_TYPE, digest, size), tuple(stored)))
            parse_manifest(manifest)
            digest, size = blobs.store(self.layout, manifest)
            with changing(self.layout) as versions:
                versions.append(versions[-1].adding(digest, size, str(name) if name else "", annotations))
        return digest

    def enter(self, entering: Sequence[Entering], replaces: Callable[[str], bool]) -> list[str]:
        """Add images as they are, bit for bit, all or none. Returns the names that they could not have.

        A name of another image moves to the new one only if `replaces` says so for the other's digest. Raises `NoSpace`,
        and `Corrupt` for content that does not match its digest; then `collect` removes what was stored.
        """
        self.create()
        for image in entering:
            check_annotations(image.annotations)
        taken: list[str] = []
        with self._writable(), files.locked(self.layout.adding, shared=True):
            for image in entering:
                for digest, content in image.contents.items():
                    if blobs.store(self.layout, content)[0] != digest:
                        raise Corrupt(f"the content of {digest} does not match its digest")
            with changing(self.layout) as versions:
                for image in entering:
                    name = str(image.name) if image.name else ""
                    holder = versions[-1].find(name) if name else None
                    has_it = holder is not None and holder.descriptor.digest == image.digest
                    if holder is not None and not has_it and not replaces(holder.descriptor.digest):
                        taken.append(name)
                        name = ""
                    if not has_it and (name or not versions[-1].starting(image.digest)):
                        versions.append(versions[-1].adding(image.digest, image.size, name, image.annotations))
        return taken

    def _layer(self, role: Role, source: Source) -> Descriptor:
        if source.form not in FORMATS[role]:
            raise Refused(f"{role} is {source.form}, not {' or '.join(sorted(FORMATS[role]))}")
        return layer(role, source.form, *blobs.store(self.layout, source.content))

    def _writable(self) -> _Writable:
        return _Writable(self)

    def index(self) -> Index:
        """The library's index. Raises `Corrupt`."""
        return read_index(self.layout)

    def resolve(self, reference: Reference) -> Entry:
        """The image that a reference means. Raises `NotFound`, or `Refused` for the beginning of several digests."""
        return self.resolve_in(self.index(), reference)

    def open(self, reference: Reference, notice: str = "") -> OpenImage:
        """Open an image to run it: every blob checked and locked.

        Raises `NotFound`, `Corrupt`, `Stopped` if no list endorses it any more, or `Refused` if it is not a Dayfly image.
        """
        return self.open_in(self.index(), reference, notice)

    def resolve_in(self, index: Index, reference: Reference) -> Entry:
        """As `resolve`, in an index that was read before."""
        return resolve(index, str(reference.name), reference.digest, self.title)

    def open_in(self, index: Index, reference: Reference, notice: str = "") -> OpenImage:
        """As `open`, in an index that was read before."""
        entry = self.resolve_in(index, reference)
        digest = entry.descriptor.digest
        try:
            stands = provenance_of(self.layout, digest, _label(entry), index.sources(digest), weak=self.weak_lists)
            return self._open(reference, entry, index.names(digest), stands, notice)
        except NotFound as error:
            if any(other.descriptor.digest == digest for other in self.index().entries):
                raise Corrupt(f"the {self.title} is damaged: {error.message}", blobs.DAMAGED_HINT) from error
            raise NotFound(f"{reference} was removed from the {self.title} just now") from error

    def _open(self, reference: Reference, entry: Entry, names: tuple[str, ...], provenance: Provenance, notice: str) -> OpenImage:
        manifest, config = self._read(entry)
        label = _label(entry)
        opened: dict[Role, OpenBlob] = {}
        try:
            for role in Role:
                found = manifest.find(role)
                if found:
                    file = blobs.open_blob(self.layout, found, f"the {role} of {label}")
                    opened[role] = OpenBlob(self.layout.blob(found.digest), file, found.form, found.digest, found.size)
        except BaseException:
            _close(blob.file for blob in opened.values())
            raise
        return OpenImage(
            reference=reference,
            name=entry.name,
            names=names,
            digest=entry.descriptor.digest,
            library=self.kind,
            config=config,
            provenance=provenance,
            root=opened[Role.DISK if config.boot.by_firmware else Role.ROOT],
            kernel=opened.get(Role.KERNEL),
            modules=opened.get(Role.MODULES),
            boot_modules=opened.get(Role.BOOT_MODULES),
            notice="; ".join(filter(None, (notice, *provenance.weak))),
        )

    def _read(self, entry: Entry) -> tuple[Manifest, ImageConfig]:
        label = _label(entry)
        content = blobs.read_blob(self.layout, entry.descriptor, MANIFEST_LIMIT, f"the manifest of {label}")
        manifest = parse_manifest(content, f"the manifest of {label}")
        content = blobs.read_blob(self.layout, manifest.config, CONFIG_LIMIT, f"the config of {label}")
        config = parse_config(content, f"the config of {label}")
        if config.boot.by_firmware != (manifest.find(Role.DISK) is not None):
            raise Refused(f"{label} has the boot mode {config.boot}, but not the layers for it")
        return manifest, config

    def provenance(self, digest: str, name: str = "") -> Provenance:
        """How an image came here, and who endorses it. Raises `Stopped` if no list does any more; `Corrupt`."""
        return provenance_of(self.layout, digest, name or digest, self.index().sources(digest), weak=self.weak_lists)

    def names(self, digest: str) -> tuple[str, ...]:
        """All names of an image."""
        return self.index().names(digest)

    def inspect(self, reference: Reference) -> tuple[str, Manifest, ImageConfig]:
        """An image's digest, manifest and config. Raises as `open` does."""
        entry = self.resolve(reference)
        return (entry.descriptor.digest, *self._read(entry))

    def images(self) -> list[Listed]:
        """All images by name, including those that cannot be run."""
        listed = [self._listed(entry) for entry in self.index().entries if not re.fullmatch(_ATTACHED, entry.name)]
        return sorted(listed, key=lambda image: (not image.name, image.name, image.digest))

    def _listed(self, entry: Entry) -> Listed:
        digest = entry.descriptor.digest
        try:
            manifest, config = self._read(entry)
            provenance_of(self.layout, digest, _label(entry), weak=self.weak_lists)
        except DayflyError as error:
            return Listed(self.kind, entry.name, digest, 0, None, error.message)
        size = entry.descriptor.size + manifest.config.size + sum(descriptor.size for descriptor in manifest.layers)
        return Listed(self.kind, entry.name, digest, size, config)

    def remove(self, reference: Reference) -> str:
        """Remove a name, or with a digest the image with all its names, and return its digest. Raises `NotFound`.

        The blobs stay until `collect`.
        """
        if not self.layout.exists():
            raise NotFound(f"there is no {self.title}")
        with self._writable(), changing(self.layout) as versions:
            index = versions[-1]
            entry = resolve(index, str(reference.name), reference.digest, self.title)
            digest = entry.descriptor.digest
            versions.append(index.without(digest) if reference.digest else index.without_name(entry.name))
        return digest

    def tag(self, reference: Reference, name: Name) -> str:
        """Give an image another name and return its digest. Raises `NotFound`."""
        with self._writable(), changing(self.layout) as versions:
            found = resolve(versions[-1], str(reference.name), reference.digest, self.title).descriptor
            versions.append(versions[-1].adding(found.digest, found.size, str(name), found.annotations))
        return found.digest

    def verify(self, reference: Reference | None = None, progress: Callable[[str], None] | None = None) -> Verified:
        """Read every blob again (of one image, or of all) and compare it with its digest."""
        from dayfly.image.maintenance import verify  # noqa: PLC0415 (not on a job's path)

        entries = [self.resolve(reference)] if reference else list(self.index().entries)
        return verify(self.layout, entries, everything=reference is None, progress=progress)

    def collect(self, *, unnamed: bool = False) -> Collected:
        """Remove blobs that no image and no machine uses, and what dead processes left.

        With `unnamed`, also images without a name.
        """
        from dayfly.image.maintenance import collect, nothing  # noqa: PLC0415 (not on a job's path)

        if not self.layout.exists():
            return nothing()
        with self._writable():
            return collect(self.layout, unnamed=unnamed)


class _Writable:
    """Turns the system's errors on writing into `Refused` and `NoSpace`."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, PermissionError):
            hint = "only the site's administrator may" if self._library.kind is LibraryKind.SYSTEM else "see who owns the folder"
            raise Refused(f"the {self._library.title} cannot be changed: {error.strerror}", hint) from error


def _label(entry: Entry) -> str:
    return entry.name or entry.descriptor.digest
