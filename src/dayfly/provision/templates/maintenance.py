"""Maintenance of a store of templates: listing, checking and removing them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dayfly import files
from dayfly.errors import NotFound, Refused
from dayfly.provision.templates import failures
from dayfly.provision.templates.publish import clear, digest_of
from dayfly.provision.templates.store import ABOUT, About, Kind, Store, Unusable, read_about


@dataclass(frozen=True)
class StoredTemplate:
    """A template in a store: its size on disk in bytes, and when it was last used, in seconds since the epoch.

    If it cannot be used, `about` is None and `problem` says why.
    """

    kind: Kind
    name: str
    folder: Path
    size: int
    used: float
    about: About | None
    problem: str = ""


def stored(store: Store) -> list[StoredTemplate]:
    """All templates of a store, the last used first; including those that cannot be used, but not those being made."""
    found = [_stored(store, folder) for folder in _folders(store)]
    return sorted((one for one in found if one), key=lambda one: -one.used)


def _folders(store: Store) -> list[Path]:
    try:
        return [path for path in store.folder.iterdir() if path.is_dir() and not path.is_symlink()]
    except (FileNotFoundError, PermissionError):
        return []


def _stored(store: Store, folder: Path) -> StoredTemplate | None:
    try:
        status = folder.stat()
        size = sum(path.stat().st_blocks * 512 for path in folder.iterdir())
    except OSError:  # removed meanwhile
        return None
    about, problem = None, ""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            about = read_about(descriptor, status.st_uid)
        finally:
            os.close(descriptor)
        if about is None:
            return None
        for part, wanted in about.files.items():
            if files.fingerprint((folder / part).stat()) != wanted.fingerprint:
                raise Unusable(f"its {part} was changed after it was made")
    except (Unusable, OSError) as error:
        problem = error.message if isinstance(error, Unusable) else f"{error.strerror}"
        about = None
    return StoredTemplate(store.kind, folder.name, folder, size, status.st_mtime, about, problem)


def verify(one: StoredTemplate) -> str:
    """Read a template again and compare it with its digests. Returns what is wrong with it (may be empty)."""
    if one.about is None:
        return one.problem
    for part, wanted in one.about.files.items():
        with (one.folder / part).open("rb") as file:
            if digest_of(file.fileno()) != wanted.digest:
                return f"the content of its {part} was changed after it was made"
    return ""


def find(stores: list[Store], prefix: str) -> StoredTemplate:
    """The template whose name has this prefix; `system/` or `user/` before it names the store.

    Raises `NotFound`, also if there are several.
    """
    whose, slash, rest = prefix.partition("/")
    wanted = rest if slash else prefix
    kinds = [kind for kind in Kind if not slash or whose == kind]
    found = [one for store in stores if store.kind in kinds for one in stored(store) if wanted and one.name.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    if len({one.name for one in found}) == 1:
        raise NotFound(f"both the site and you have a template {found[0].name}", f"write system/{prefix} or user/{prefix}")
    what = "no template's name begins" if not found else f"the names of {len(found)} templates begin"
    raise NotFound(f"{what} with {prefix!r}", "`dayfly template list` shows them")


def remove(folder: Path) -> bool:
    """Remove a template; machines that were cloned from it are not affected. False: it is just being made.

    Raises `Refused` if this user may not.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True
    try:
        if not files.unused(descriptor):
            return False
        clear(folder)
    except PermissionError as error:
        raise Refused(f"{folder} cannot be removed: {error.strerror}", "only the owner of the folder may") from error
    finally:
        os.close(descriptor)
    return True


def sweep(store: Store) -> None:
    """Remove what killed processes left."""
    for folder in _folders(store):
        if not (folder / ABOUT).exists():
            with contextlib.suppress(Refused, OSError):  # another user's, or just being made
                remove(folder)
    for note in store.folder.glob(f"*{failures.SUFFIX}"):
        if not failures.noted(store, note.stem):
            note.unlink(missing_ok=True)


def collect(
    store: Store, limit: int, *, spare: str = "", wanted: Callable[[StoredTemplate], bool] = lambda _: True
) -> tuple[list[StoredTemplate], int]:
    """Remove templates that are damaged or not `wanted`, then the least recently used ones, until at most `limit` bytes are left.

    The one named `spare` stays. Returns those that were removed, and how many bytes are left. Raises `Refused`.
    """
    sweep(store)
    gone: list[StoredTemplate] = []
    have = stored(store)
    left = sum(one.size for one in have)
    for one in sorted(have, key=lambda one: (one.about is not None and wanted(one), one.used)):
        useless = one.about is None or not wanted(one)
        if one.name != spare and (useless or left > limit) and remove(one.folder):
            gone.append(one)
            left -= one.size
    return gone, left
