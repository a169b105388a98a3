"""Writes a template to disk: once for all processes that need it, completely or not at all, and never in place of one that is in
use.

The process that makes one locks its folder; others that need the same one wait for it. A kill leaves at most a folder without
`template.json`, which is removed when the next template is made.
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
def creating(store: Store, name: str) -> Iterator[Path]:
    """The folder of a template, locked for the time of the block; waits for another process that has it.

    Raises `Refused` if the store cannot be written to.
    """
    try:
        store.folder.mkdir(parents=True, exist_ok=True, mode=_folder_mode(store.kind))
        if trouble := store.trouble():
            raise Refused(trouble, "see who owns the folder, and chmod go-w")
        descriptor = _locked(store.folder / name, _folder_mode(store.kind))
    except PermissionError as error:
        hint = "only its owner makes the site's templates" if store.kind is Kind.SYSTEM else "see who owns the folder"
        raise Refused(f"no template can be stored in {store.folder}: {error.strerror}", hint) from error
    try:
        yield store.folder / name
    finally:
        with contextlib.suppress(FileNotFoundError):  # another process removed it
            if not (store.folder / name / ABOUT).exists():  # it was not completed
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
        except FileNotFoundError:  # removed by the process that failed to complete it
            continue
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if folder.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)  # removed while this process waited


def write(folder: Path, kind: Kind, parts: dict[str, int], about: About, *, digests: dict[str, str] | None = None) -> None:
    """Copy a template's open files into its folder, which `creating` has locked. `about` needs no files yet.

    With `digests`, the copies must match them. Raises `NoSpace`, or `Corrupt` if a copy does not match.
    """
    mode = 0o444 if kind is Kind.SYSTEM else 0o600
    (folder / ABOUT).unlink(missing_ok=True)  # first: from here on there is no template until it is complete
    kept: dict[str, File] = {}
    for part in FILES:
        with files.drafting(folder, mode) as draft:
            size = os.fstat(parts[part]).st_size
            with files.reporting_full_disk(folder):
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
    """The digest of an open sparse file's data: of its size, and of each chunk that is not zeros and its offset."""
    size = os.fstat(descriptor).st_size
    checksum = hashlib.sha256(size.to_bytes(8, "little"))
    done = 0
    for start, end in files.data_of(descriptor, size):
        for at in range(max(done, start - start % _CHUNK), end, _CHUNK):
            done = at + _CHUNK  # a chunk with holes has data in several ranges
            chunk = os.pread(descriptor, _CHUNK, at)
            if chunk != _ZEROS[: len(chunk)]:
                checksum.update(at.to_bytes(8, "little"))
                checksum.update(chunk)
    return f"sha256:{checksum.hexdigest()}"


def _folder_mode(kind: Kind) -> int:
    return 0o755 if kind is Kind.SYSTEM else 0o700
