"""Edits of a site's files: a block of lines between two marks, and whole files that say who made them.

What to write is decided before anything is written, and only if there are no conflicts. The old content is saved.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path

from dayfly import files
from dayfly.batch.setup import hooks
from dayfly.errors import FieldError, FileErrors
from dayfly.values import dataclass

END = "# END dayfly"
_LIMIT = 16 * 1024 * 1024
_HEAD = 400
"""The number of characters at a file's beginning that must contain the mark of who made it."""


@dataclass(frozen=True)
class Made:
    """A file's new content, and its mode if it is new."""

    content: str
    mode: int = 0o644


@dataclass(frozen=True)
class Places:
    """The paths on each host: the batch system's folder, our hooks' folder, dayfly, the settings (empty: the default)."""

    system: Path
    hooks: Path
    program: str
    settings_file: str


@dataclass(frozen=True)
class Block:
    """The lines between two marks that `dayfly batch setup SYSTEM --apply` writes."""

    system: str

    @property
    def begin(self) -> str:
        """The line before them."""
        return f"# BEGIN dayfly: `dayfly batch setup {self.system} --apply` writes what is between these lines"

    def without(self, text: str, path: Path, errors: list[FieldError]) -> str:
        """The text without our block: the site's own part."""
        lines = text.splitlines()
        marks = [line for line in lines if line in (self.begin, END)]
        if not marks:
            return text
        if marks != [self.begin, END]:
            hint = "remove those lines and everything between them"
            errors.append(FieldError(path.name, "does not have exactly one begin and one end of dayfly's block", hint))
            return text
        return "\n".join([*lines[: lines.index(self.begin)], *lines[lines.index(END) + 1 :]])

    def within(self, text: str, lines: list[str]) -> str:
        """The text with our block: where it was, or at the end. Without lines, the block is removed."""
        block = "\n".join([self.begin, *lines, END]) + "\n" if lines else ""
        before, begin, rest = text.partition(self.begin + "\n")
        if begin:
            return before + block + rest.partition(END + "\n")[2]
        return text + ("" if not text or text.endswith("\n") or not block else "\n") + block


def read(path: Path, errors: list[FieldError], needed: str = "") -> str:
    """A file's text; empty if it does not exist, which is an error with the hint `needed` if that is not empty."""
    try:
        return files.read(path, _LIMIT).decode(errors="surrogateescape")
    except FileNotFoundError:
        if needed:
            errors.append(FieldError(str(path), "does not exist", needed))
    except OSError as error:
        errors.append(FieldError(str(path), f"cannot be read: {error.strerror}"))
    return ""


def check_there(path: str, hint: str, errors: list[FieldError]) -> None:
    """Add an error if there is no such file."""
    if not Path(path).is_file():
        errors.append(FieldError(path, "does not exist", hint))


def check_made(path: Path, system: str, errors: list[FieldError]) -> None:
    """Add an error if a file exists and was not made by Dayfly."""
    there = read(path, errors)
    if there and hooks.made_by(system) not in there[:_HEAD]:
        hint = f"add what it needs from `dayfly batch setup {system} --show {path.name}`, or move it away"
        errors.append(FieldError(path.name, "is the site's own", hint))


def is_free(name: str, theirs: str, ours: Path, where: str, errors: list[FieldError], known_by: str = "") -> bool:
    """Whether a setting for one program is free for ours: not if the site's own program calls ours, which is recognised by the
    word `known_by` in it (default: our full path). If it does not call ours, that is an error.
    """
    if theirs and theirs != str(ours) and not _says(theirs, known_by or str(ours)):
        errors.append(FieldError(where, f"has {name} {theirs}", f"have it call {ours}"))
    return not theirs


def _says(program: str, word: str) -> bool:
    try:
        return word in Path(program).read_text(errors="replace")
    except OSError:
        return False


def changed(wanted: Mapping[Path, Made]) -> Mapping[Path, Made]:
    """The files whose content must change."""
    return {path: made for path, made in wanted.items() if read(path, []) != made.content}


def check_writable(planned: Mapping[Path, Made], whose: str) -> None:
    """Raises `FileErrors` for all folders that cannot be written to, before anything is written."""
    folders = sorted({_existing_parent(path.parent) for path in planned})
    errors = [
        FieldError(str(folder), "is not writable", "run it as root") for folder in folders if not os.access(folder, os.W_OK)
    ]
    if errors:
        raise FileErrors(whose, errors)


def _existing_parent(folder: Path) -> Path:
    """A folder, or its nearest existing parent."""
    return next(place for place in (folder, *folder.parents) if place.exists())


def write(planned: Mapping[Path, Made]) -> list[Path]:
    """Write the files in order, each atomically. Old files are saved next to the new ones, at the returned paths.

    Their names end in a tilde, so that programs that read all files of a folder ignore them.
    """
    saved: list[Path] = []
    suffix = time.strftime(".before-dayfly-%Y%m%dT%H%M%SZ~", time.gmtime())
    for path, made in planned.items():
        mode = made.mode
        if path.exists():
            mode = stat.S_IMODE(path.stat().st_mode)
            backup = path.with_name(path.name + suffix)
            files.write(backup, path.read_bytes(), mode)
            saved.append(backup)
        files.write(path, made.content.encode(errors="surrogateescape"), mode)
    return saved
