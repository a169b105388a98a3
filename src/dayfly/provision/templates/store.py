"""A folder of templates: finding the one for a key, checking it, and opening it.

    FOLDER/NAME/memory, state, scratch    the saved machine
    FOLDER/NAME/template.json             their description; written last, so that a template without it is incomplete

There are two: the site's, which only its owner can write to, and each user's own, which nobody else can read. The content of a
template becomes the memory of a job, so each part must belong to the folder's owner, and nobody else may write to it.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from dayfly import disknames, files
from dayfly.errors import DayflyError, in_words
from dayfly.provision.templates.key import Key
from dayfly.values import dataclass

ABOUT = disknames.TEMPLATE_DESCRIPTION
MEMORY, STATE, SCRATCH = disknames.MEMORY, disknames.STATE, disknames.SCRATCH
FILES = (MEMORY, STATE, SCRATCH)
VERSION = 2
_ABOUT_LIMIT = 256 * 1024
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Kind(StrEnum):
    """The owner of templates: the site, for all users, or a user."""

    SYSTEM = "system"
    USER = "user"


class Unusable(DayflyError):
    """A template that exists, but cannot be used."""


@dataclass(frozen=True)
class File:
    """One part of a template: its size in bytes, the digest of its data, and the file's fingerprint when it was written."""

    size: int
    digest: str
    fingerprint: str


@dataclass(frozen=True)
class About:
    """The content of `template.json`: the facts of its key, the machine that it is a snapshot of, and its files.

    `scratch` is the size of the scratch disk in bytes, `seconds` is how long it took to make. `snapshot` is the description
    as JSON (`dayfly.machine.snapshot.description`), which is not parsed on a job's hot path.
    """

    facts: Mapping[str, str]
    scratch: int
    made: str
    seconds: float
    snapshot: Mapping[str, object]
    files: Mapping[str, File]

    @property
    def qemu(self) -> str:
        """The version of the QEMU that saved it."""
        return str(self.snapshot["qemu"])


@dataclass(frozen=True)
class OpenTemplate:
    """A template that was found and checked. Its open files stay valid, even if it is removed meanwhile."""

    name: str
    folder: Path
    about: About
    memory: int
    state: int
    scratch: int
    writable: bool
    """Whether this user may write to its memory: QEMU before 8.2 opens it for writing (and then does not write)."""

    def close(self) -> None:
        """Close the files. To be called once."""
        for descriptor in (self.memory, self.state, self.scratch):
            os.close(descriptor)


class Store:
    """One folder of templates. A folder that does not exist yet is empty."""

    def __init__(self, folder: Path, kind: Kind) -> None:
        self.folder = folder
        self.kind = kind

    def find(self, key: Key) -> OpenTemplate | None:
        """Open the template for these facts; None if there is none.

        Raises `Unusable` for one that is incomplete, damaged, or writable by others than its owner.
        """
        try:
            folder = os.open(self.folder / key.name, _FOLDER)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError as error:
            raise Unusable(f"{self.folder / key.name} cannot be read") from error
        try:
            owner = self._owner()
            _check_owner(os.fstat(folder), owner, self.folder / key.name)
            about = read_about(folder, owner)
            if about is None:
                return None
            if about.facts != key.facts:
                raise Unusable(f"{self.folder / key.name} is a template of another machine")
            return self._open(key.name, folder, owner, about)
        finally:
            os.close(folder)

    def trouble(self) -> str:
        """Why this store is not used (may be empty)."""
        try:
            self._owner()
        except FileNotFoundError:
            return ""
        except (Unusable, OSError) as error:
            return in_words(error)
        return ""

    def _owner(self) -> int:
        """The user who must own everything here."""
        status = os.stat(self.folder)  # noqa: PTH116 (on the way to every job's start)
        owner = status.st_uid if self.kind is Kind.SYSTEM else os.geteuid()
        _check_owner(status, owner, self.folder)
        return owner

    def _open(self, name: str, folder: int, owner: int, about: About) -> OpenTemplate:
        opened: dict[str, int] = {}
        try:
            for part in FILES:
                opened[part] = _open_part(folder, part, owner, about.files[part])
        except BaseException:
            for descriptor in opened.values():
                os.close(descriptor)
            raise
        self._used(folder)
        mode = os.fstat(opened[MEMORY]).st_mode
        writable = os.geteuid() == 0 or (owner == os.geteuid() and bool(mode & stat.S_IWUSR))
        return OpenTemplate(name, self.folder / name, about, opened[MEMORY], opened[STATE], opened[SCRATCH], writable)

    def _used(self, folder: int) -> None:
        """Set the folder's time, which says when a template was last used. Only the owner can do so for the site's."""
        try:
            os.utime(folder)
        except OSError:
            return


def read_about(folder: int, owner: int) -> About | None:
    """The description of the template in an open folder; None if it is incomplete. Raises `Unusable`."""
    try:
        descriptor = os.open(ABOUT, _FILE, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unusable(f"a template's {ABOUT} cannot be read: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        _check_owner(os.fstat(descriptor), owner, ABOUT)
        text = file.read(_ABOUT_LIMIT + 1)
    return parse_about(text)


def parse_about(text: bytes) -> About:
    """Read `template.json`. Raises `Unusable` if it is not what this version of Dayfly writes."""
    try:
        if len(text) > _ABOUT_LIMIT:
            raise ValueError("too long")
        fields = json.loads(text)
        if fields["version"] != VERSION:
            raise ValueError("another version")
        parts = {
            name: File(int(one["size"]), str(one["digest"]), str(one["fingerprint"])) for name, one in fields["files"].items()
        }
        facts = {str(name): str(value) for name, value in fields["facts"].items()}
        snapshot = fields["snapshot"]
        if not isinstance(snapshot["qemu"], str) or snapshot["agent"] != "idle":
            raise ValueError("a job's machine")
        about = About(facts, int(fields["scratch"]), str(fields["made"]), float(fields["seconds"]), snapshot, parts)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Unusable(f"a template's {ABOUT} is damaged") from error
    if set(parts) != set(FILES):
        raise Unusable(f"a template's {ABOUT} is damaged")
    return about


def _open_part(folder: int, part: str, owner: int, wanted: File) -> int:
    try:
        descriptor = os.open(part, _FILE, dir_fd=folder)
    except OSError as error:
        raise Unusable(f"a template's {part} cannot be opened: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        _check_owner(status, owner, part)
        if not stat.S_ISREG(status.st_mode) or files.fingerprint(status) != wanted.fingerprint:
            raise Unusable(f"a template's {part} was changed after it was made")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_owner(status: os.stat_result, owner: int, what: object) -> None:
    if status.st_uid != owner:
        raise Unusable(f"{what} belongs to user {status.st_uid} and not to user {owner}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Unusable(f"{what} is writable by users other than its owner")
