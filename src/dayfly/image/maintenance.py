"""Maintenance of a library: verification and garbage collection."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from dayfly import files
from dayfly.errors import Corrupt, NotFound, Refused
from dayfly.image import blobs
from dayfly.image.fields import Fields, decode
from dayfly.image.layout import Entry, Layout, changing, read_index
from dayfly.image.manifest import INDEX_TYPE, MANIFEST_LIMIT, MANIFEST_TYPE, Descriptor, parse_descriptor
from dayfly.image.work import remove_resumable, sweep
from dayfly.values import dataclass

_MANIFESTS = frozenset(
    {
        MANIFEST_TYPE,
        INDEX_TYPE,
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    }
)
_HEX = re.compile(r"[0-9a-f]{64}")
_LIST_LIMIT = 10_000
_DEPTH = 8


@dataclass(frozen=True)
class BadBlob:
    """A bad blob, and the images that cannot be used because of it."""

    digest: str
    path: Path
    problem: str
    images: tuple[str, ...]

    def __str__(self) -> str:
        used = f"used by {', '.join(self.images)}" if self.images else "used by no image"
        return f"{self.path} {self.problem} ({used})"


@dataclass(frozen=True)
class Verified:
    """The result of a verification: the number of blobs read, and the bad ones."""

    checked: int
    bad: tuple[BadBlob, ...]


@dataclass(frozen=True)
class Collected:
    """The result of a garbage collection. `in_use` are blobs that no image names any more, but that machines still use."""

    removed: tuple[str, ...]
    freed: int
    in_use: tuple[str, ...]
    folders: int


def nothing() -> Collected:
    """The result for a library that does not exist."""
    return Collected((), 0, (), 0)


def _named_by(layout: Layout, wanted: Descriptor, depth: int = 0) -> Iterable[Descriptor]:
    """A descriptor and all those below it, in any OCI or Docker image.

    Raises `Corrupt`, `NotFound` or `Refused` if a manifest cannot be read.
    """
    yield wanted
    if wanted.media_type not in _MANIFESTS:
        return
    if depth > _DEPTH:
        raise Refused(f"{wanted.digest} is more than {_DEPTH} manifests deep")
    what = f"the manifest {wanted.digest}"
    fields = decode(blobs.read_blob(layout, wanted, MANIFEST_LIMIT, what), what)
    inner = [element for name in ("layers", "manifests", "blobs") for element in fields.items(name, _LIST_LIMIT)]
    inner += [fields.values[name] for name in ("config", "subject") if fields.has(name)]
    for position, element in enumerate(inner):
        found = parse_descriptor(Fields.of(element, f"{what}: descriptor {position}"), annotated=False)
        if fields.values.get("subject") is not element or layout.blob(found.digest).exists():
            yield from _named_by(layout, found, depth + 1)


def verify(layout: Layout, entries: list[Entry], *, everything: bool, progress: Callable[[str], None] | None) -> Verified:
    """Read the blobs of these images again; with `everything`, also blobs that no image uses."""
    users: dict[str, set[str]] = defaultdict(set)
    sizes: dict[str, int | None] = {}
    trouble: dict[str, str] = {}
    for entry in entries:
        label = entry.name or entry.descriptor.digest
        try:
            for found in _named_by(layout, entry.descriptor):
                users[found.digest].add(label)
                sizes[found.digest] = found.size
        except (Corrupt, NotFound):
            continue  # its blob is checked below, and is in `users` already
        except Refused as error:
            trouble[entry.descriptor.digest] = f"cannot be parsed: {error.message}"
    if everything and layout.blobs.is_dir():
        names = (path.name for path in layout.blobs.iterdir() if _HEX.fullmatch(path.name))
        sizes = dict.fromkeys((f"sha256:{name}" for name in names), None) | sizes
    bad = []
    for digest, size in sorted(sizes.items()):
        (progress or _silent)(digest)
        wrong = _check(layout, digest, size) or trouble.get(digest, "")
        if wrong:
            bad.append(BadBlob(digest, layout.blob(digest), wrong, tuple(sorted(users[digest]))))
    return Verified(len(sizes), tuple(bad))


def _silent(_: str) -> None:
    return


def _check(layout: Layout, digest: str, size: int | None) -> str:
    try:
        descriptor = blobs.open_file(layout.blob(digest), digest)
    except Corrupt:
        return "is not a regular file"
    except OSError as error:
        return f"cannot be opened: {error.strerror}"
    try:
        return blobs.problem(layout, digest, size, descriptor, thorough=True)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    finally:
        os.close(descriptor)


def collect(layout: Layout, *, unnamed: bool) -> Collected:
    """Remove what no image names. Nothing is added meanwhile: adding waits for the lock `adding`."""
    folders = sweep(layout) + remove_resumable(layout)
    with files.locked(layout.adding):
        if unnamed:
            with changing(layout) as versions:
                versions.append(versions[-1].without_unnamed())
        with files.locked(layout.lock):
            needed = _needed(layout)
            removed, freed, in_use = _remove_blobs(layout, needed)
            for path in (*layout.folder.iterdir(), *layout.blobs.iterdir(), *_names_in(layout.verified)):
                if files.is_draft(path.name):
                    path.unlink(missing_ok=True)
            for path in _names_in(layout.verified):
                if not (layout.blobs / path.name).exists():
                    path.unlink(missing_ok=True)
    return Collected(tuple(removed), freed, tuple(in_use), folders)


def _names_in(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _needed(layout: Layout) -> set[str]:
    needed: set[str] = set()
    for entry in read_index(layout).entries:
        try:
            needed.update(found.digest for found in _named_by(layout, entry.descriptor))
        except (Corrupt, NotFound, Refused) as error:
            name = entry.name or entry.descriptor.digest
            raise Corrupt(
                f"nothing was removed from {layout.folder}: the blobs of {name} are not known: {error.message}",
                f"add {name} again, or remove it with `dayfly image remove {entry.descriptor.digest}`",
            ) from error
    return needed


def _remove_blobs(layout: Layout, needed: set[str]) -> tuple[list[str], int, list[str]]:
    removed, in_use, freed = [], [], 0
    for path in sorted(layout.blobs.iterdir()):
        digest = f"sha256:{path.name}"
        if not _HEX.fullmatch(path.name) or digest in needed:
            continue
        size = blobs.remove_unused(path)
        if size is None:
            in_use.append(digest)
        else:
            blobs.forget(layout, digest)
            removed.append(digest)
            freed += size
    return removed, freed, in_use
