"""Files that a site keeps and Dayfly has a part in: lines between two marks, whole files that say who made them.

Which files are written is decided before any is, and only when nothing is in doubt. What was there is kept.
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
"""Characters at a file's beginning among which it says who made it."""


@dataclass(frozen=True)
class Made:
    """A file's new content, and its mode where it is not there yet."""

    content: str
    mode: int = 0o644


@dataclass(frozen=True)
class Places:
    """Where things are on each host: the batch system's own folder, our hooks', dayfly, the settings (empty: the usual)."""

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
        """The text without our block: what the site says."""
        lines = text.splitlines()
        marks = [line for line in lines if line in (self.begin, END)]
        if not marks:
            return text
        if marks != [self.begin, END]:
            hint = "remove those lines, and what is between them"
            errors.append(FieldError(path.name, "has more or less than one beginning and end of dayfly's block", hint))
            return text
        return "\n".join([*lines[: lines.index(self.begin)], *lines[lines.index(END) + 1 :]])

    def within(self, text: str, lines: list[str]) -> str:
        """The text with our block: where it was, or at the end. Without lines there is none."""
        block = "\n".join([self.begin, *lines, END]) + "\n" if lines else ""
        before, begin, rest = text.partition(self.begin + "\n")
        if begin:
            return before + block + rest.partition(END + "\n")[2]
        return text + ("" if not text or text.endswith("\n") or not block else "\n") + block


def read(path: Path, errors: list[FieldError], needed: str = "") -> str:
    """A file's text; empty where it is not there, which is a mistake with the hint `needed` where that is not empty."""
    try:
        return files.read(path, _LIMIT).decode(errors="surrogateescape")
    except FileNotFoundError:
        if needed:
            errors.append(FieldError(str(path), "is not there", needed))
    except OSError as error:
        errors.append(FieldError(str(path), f"cannot be read: {error.strerror}"))
    return ""


def check_there(path: str, hint: str, errors: list[FieldError]) -> None:
    """A mistake where there is no such file."""
    if not Path(path).is_file():
        errors.append(FieldError(path, "is not there", hint))


def check_made(path: Path, system: str, errors: list[FieldError]) -> None:
    """A mistake where a file is there, and not a whole one of ours."""
    there = read(path, errors)
    if there and hooks.made_by(system) not in there[:_HEAD]:
        hint = f"take what it needs from `dayfly batch setup {system} --show {path.name}`, or move it away"
        errors.append(FieldError(path.name, "is the site's own", hint))


def is_free(name: str, theirs: str, ours: Path, where: str, errors: list[FieldError], known_by: str = "") -> bool:
    """Whether a setting that names one program is ours to make: not where the site's own program calls ours, which is `known_by`
    a word in it (default: our whole path). A mistake where it does not."""
    if theirs and theirs != str(ours) and not _says(theirs, known_by or str(ours)):
        errors.append(FieldError(where, f"has {name} {theirs}", f"let that call {ours}"))
    return not theirs


def _says(program: str, word: str) -> bool:
    try:
        return word in Path(program).read_text(errors="replace")
    except OSError:
        return False


def changed(wanted: Mapping[Path, Made]) -> Mapping[Path, Made]:
    """Those that are not as they should be."""
    return {path: made for path, made in wanted.items() if read(path, []) != made.content}


def check_writable(planned: Mapping[Path, Made], whose: str) -> None:
    """Raises `FileErrors` for every folder that cannot be written to, before anything is."""
    folders = sorted({_standing(path.parent) for path in planned})
    errors = [
        FieldError(str(folder), "cannot be written to", "run it as root") for folder in folders if not os.access(folder, os.W_OK)
    ]
    if errors:
        raise FileErrors(whose, errors)


def _standing(folder: Path) -> Path:
    """A folder, or, where it is not there yet, the one that it will be made in."""
    return next(place for place in (folder, *folder.parents) if place.exists())


def write(planned: Mapping[Path, Made]) -> list[Path]:
    """Write the files, in their order; each appears whole. What was there before is kept beside it, as the returned paths.

    Their names end in a tilde: what reads all files of a folder leaves those out.
    """
    kept: list[Path] = []
    suffix = time.strftime(".before-dayfly-%Y%m%dT%H%M%SZ~", time.gmtime())
    for path, made in planned.items():
        mode = made.mode
        if path.exists():
            mode = stat.S_IMODE(path.stat().st_mode)
            backup = path.with_name(path.name + suffix)
            files.write(backup, path.read_bytes(), mode)
            kept.append(backup)
        files.write(path, made.content.encode(errors="surrogateescape"), mode)
    return kept
