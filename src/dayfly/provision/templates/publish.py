"""Putting a template on disk: once for all who want it, whole or not at all, and never in place of one that is in use.

Whoever makes one holds a lock on its folder; who wants the same one waits, and finds it. A kill leaves at most a folder
without `template.json`, which the next maker of any template removes.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from dayfly import files
from dayfly.errors import Corrupt, Refused
from dayfly.provision.templates.store import ABOUT, FILES, VERSION, About, File, Kind, Store
from dayfly.values import asdict, replace

_CHUNK = 16 * 1024
_ZEROS = bytes(_CHUNK)


@contextlib.contextmanager
def making(store: Store, name: str) -> Iterator[Path]:
    """The folder of a template, held by us alone for the time of the block; waits for whoever has it.

    Raises `Refused` where the store cannot be written to.
    """
    try:
        store.folder.mkdir(parents=True, exist_ok=True, mode=_folder_mode(store.kind))
        if trouble := store.trouble():
            raise Refused(trouble, "see who owns the folder, and chmod go-w")
        descriptor = _locked(store.folder / name, _folder_mode(store.kind))
    except PermissionError as error:
        hint = "only its owner makes the site's templates" if store.kind is Kind.SYSTEM else "see who owns the folder"
        raise Refused(f"no template can be kept in {store.folder}: {error.strerror}", hint) from error
    try:
        yield store.folder / name
    finally:
        with contextlib.suppress(FileNotFoundError):  # somebody has removed it all
            if not (store.folder / name / ABOUT).exists():  # nothing came of it
                clear(store.folder / name)
        os.close(descriptor)


def clear(folder: Path) -> None:
    """Remove a template's folder, which the caller has locked. Raises `PermissionError`."""
    for name in (ABOUT, *FILES):
        (folder / name).unlink(missing_ok=True)
    for path in folder.iterdir():
        if files.is_draft(path.name):
            path.unlink(missing_ok=True)
    folder.rmdir()


def _locked(folder: Path, mode: int) -> int:
    while True:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=mode)
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:  # removed by whoever had it, for nothing came of it
            continue
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if folder.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)  # removed while we waited


def keep(folder: Path, kind: Kind, parts: dict[str, int], about: About, *, digests: dict[str, str] | None = None) -> None:
    """Copy a template's open files into its folder, which `making` holds. `about` needs no files yet.

    With `digests`, what is copied must have them. Raises `NoSpace`, or `Corrupt` for what is not what it was.
    """
    mode = 0o444 if kind is Kind.SYSTEM else 0o600
    (folder / ABOUT).unlink(missing_ok=True)  # first: from here on there is no template, until there is a whole one
    kept: dict[str, File] = {}
    for part in FILES:
        with files.drafting(folder, mode) as draft:
            size = os.fstat(parts[part]).st_size
            with files.full_disk_told(folder):
                os.ftruncate(draft.descriptor, size)
                files.copy_data(parts[part], draft.descriptor, size)
            digest = digest_of(draft.descriptor)
            if digests is not None and digests[part] != digest:
                raise Corrupt(f"the {part} of a template is damaged: {folder.name}")
            draft.publish(folder / part, mode)
            kept[part] = File(size, digest, files.fingerprint(os.fstat(draft.descriptor)))
    files.write(folder / ABOUT, render(replace(about, files=kept)), mode)


def render(about: About) -> bytes:
    """`template.json`."""
    return (json.dumps({"version": VERSION, **asdict(about)}, indent=1) + "\n").encode()


def digest_of(descriptor: int) -> str:
    """The digest of an open sparse file's data: of its size, and of each piece that is not zeros and where it is."""
    size = os.fstat(descriptor).st_size
    checksum = hashlib.sha256(size.to_bytes(8, "little"))
    done = 0
    for start, end in files.data_of(descriptor, size):
        for at in range(max(done, start - start % _CHUNK), end, _CHUNK):
            done = at + _CHUNK  # a piece with holes in it has data in several ranges
            piece = os.pread(descriptor, _CHUNK, at)
            if piece != _ZEROS[: len(piece)]:
                checksum.update(at.to_bytes(8, "little"))
                checksum.update(piece)
    return f"sha256:{checksum.hexdigest()}"


def _folder_mode(kind: Kind) -> int:
    return 0o755 if kind is Kind.SYSTEM else 0o700
