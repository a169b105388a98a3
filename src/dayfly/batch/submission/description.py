"""A job description: a TOML file, read strictly, with all errors reported at once. docs/reference/job.md describes it."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dayfly import files
from dayfly.errors import FieldError, FileErrors, NotFound, Refused
from dayfly.image.reference import parse as parse_reference
from dayfly.machine.config import BOOT_CHOICES, Network
from dayfly.units import parse_duration, parse_size

_LIMIT = 1024**2
_WORD_LIMIT = 32 * 1024
_MOST_TASKS = 100_000
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")
_PATH = re.compile(r"[A-Za-z0-9_./@+~=-]{1,1024}")
"""Paths that every batch system accepts in an option without quotes."""
_ARRAY = re.compile(r"([0-9]{1,6})-([0-9]{1,6})")


@dataclass(frozen=True)
class JobSpec:
    """A job for any batch system. `memory` is in bytes for the whole job, `time` in seconds (0: not given).

    For an array, `first` and `last` are the numbers of its tasks; 0: it is not an array. `directory` is absolute; `output`
    and `errors` are relative to it or absolute, and empty for the default of `outputs`; each task of an array has its own.
    """

    image: str
    command: tuple[str, ...]
    directory: str
    name: str = "job"
    cpus: int = 1
    memory: int = 0
    time: int = 0
    shares: tuple[str, ...] = ()
    network: str = ""
    boot: str = ""
    first: int = 0
    last: int = 0
    queue: str = ""
    account: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    output: str = ""
    errors: str = ""

    @property
    def is_array(self) -> bool:
        """Whether it has several tasks."""
        return self.last > 0

    @property
    def joins_errors(self) -> bool:
        """Whether its errors go to the same file as its output."""
        return self.output != "" and self.output == self.errors


def read(path: Path) -> JobSpec:
    """Read a description. Raises `NotFound`, or `FileErrors` with all errors in it."""
    try:
        content = files.read(path, _LIMIT)
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}", "a job description is a TOML file") from None
    return parse(content, path)


def parse(content: bytes, path: Path) -> JobSpec:
    """Read a description's text; paths in it are relative to the file's folder. Raises `FileErrors`."""
    try:
        tables = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a ValueError too
        raise FileErrors(path, [FieldError("syntax", str(error))]) from None
    values: dict[str, object] = {"directory": str(path.absolute().parent)}
    errors: list[FieldError] = []
    for name, value in tables.items():
        reader = _READERS.get(name)
        if reader is None:
            near = difflib.get_close_matches(name, _READERS, n=1)
            errors.append(
                FieldError(name, "unknown field", f"did you mean {near[0]}?" if near else "docs/reference/job.md lists them")
            )
            continue
        try:
            values |= reader(value, path.absolute().parent)
        except Refused as error:
            errors.append(FieldError(name, error.message, error.hint))
    errors += [FieldError(name, "is missing", hint) for name, hint in _NEEDED.items() if name not in tables]
    if errors:
        raise FileErrors(path, errors)
    return JobSpec(**values)  # type: ignore[arg-type]  # _READERS gives each field its type; a test compares the two


_NEEDED = {"image": 'like image = "debian:12"', "command": 'like command = ["./simulate.sh", "--steps", "100"]'}


def _text(value: object) -> str:
    if not isinstance(value, str) or not value or "\0" in value or "\n" in value:
        raise Refused("is not a line of text")
    return value


def _image(value: object, _: Path) -> dict[str, object]:
    text = _text(value)
    parse_reference(text)
    return {"image": text}


def _command(value: object, _: Path) -> dict[str, object]:
    if not isinstance(value, list) or not value:
        raise Refused("is not a list of a command's words", 'write it like ["./simulate.sh", "100"]')
    for word in value:
        if not isinstance(word, str) or "\0" in word or len(word) > _WORD_LIMIT:
            raise Refused(f"{str(word)[:100]!r} cannot be a word of a command")
    if not value[0]:
        raise Refused("is empty")
    return {"command": tuple(value)}


def _directory(value: object, base: Path) -> dict[str, object]:
    return {"directory": str((base / _path(value)).absolute())}


def _path(value: object) -> str:
    text = _text(value)
    if not _PATH.fullmatch(text):
        raise Refused(f"{text[:100]!r} is not a path that every batch system accepts", "letters, digits and . _ - / @ + ~ =")
    return text


def check_folders(job: JobSpec) -> None:
    """Raise `Refused` for folders that are valid on this host but cannot be in a batch system's option."""
    for folder in (job.directory, *(share.removesuffix(":ro").removesuffix(":rw") for share in job.shares)):
        _path(folder)


def _shares(value: object, base: Path) -> dict[str, object]:
    if not isinstance(value, list) or len(value) > 100:
        raise Refused("is not a list of folders", 'write it like ["/data:ro", "/scratch"]')
    shares = []
    for element in value:
        text = _text(element)
        path, colon, mode = text.rpartition(":")
        if not colon or mode not in ("ro", "rw"):
            path, mode = text, ""
        shares.append(f"{(base / _path(path)).absolute()}{f':{mode}' if mode else ''}")
    return {"shares": tuple(shares)}


def _array(value: object, _: Path) -> dict[str, object]:
    match = _ARRAY.fullmatch(_text(value))
    first, last = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= first <= last or last - first >= _MOST_TASKS:
        raise Refused(f"{value!r} is not a range of tasks", "write it like 1-10; tasks are numbered from 1")
    return {"first": first, "last": last}


def _count(value: object, _: Path) -> dict[str, object]:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1024:
        raise Refused(f"{value!r} is not a number from 1 to 1024")
    return {"cpus": value}


def _memory(value: object, _: Path) -> dict[str, object]:
    return {"memory": parse_size(_text(value))}


def _time(value: object, _: Path) -> dict[str, object]:
    seconds = parse_duration(_text(value))
    if not 1 <= seconds < 1 << 31:
        raise Refused(f"{value!r} is not a valid time limit")
    return {"time": round(seconds)}


def _network(value: object, _: Path) -> dict[str, object]:
    if value not in [str(network) for network in Network]:
        raise Refused(f"{value!r} is not a network mode", "none or nat")
    return {"network": value}


def _boot(value: object, _: Path) -> dict[str, object]:
    if value not in [str(boot) for boot in BOOT_CHOICES]:
        raise Refused(f"{value!r} is not a boot mode", "agent or system")
    return {"boot": value}


def _environment(value: object, _: Path) -> dict[str, object]:
    if not isinstance(value, dict) or len(value) > 1000:
        raise Refused("is not a table of variables", 'write it like { THREADS = "4" }')
    for name, text in value.items():
        if not _VARIABLE.fullmatch(name):
            raise Refused(f"{name[:100]!r} is not a name of a variable")
        if not isinstance(text, str) or "\0" in text or len(text) > _WORD_LIMIT:
            raise Refused(f"{name}: the value is not text", 'write numbers as text, like "4"')
    return {"environment": dict(value)}


def _matching(name: str, pattern: re.Pattern[str], hint: str) -> Callable[[object, Path], dict[str, object]]:
    def reader(value: object, _: Path) -> dict[str, object]:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise Refused(f"{str(value)[:100]!r} cannot be used here", hint)
        return {name: value}

    return reader


def _output(name: str) -> Callable[[object, Path], dict[str, object]]:
    return lambda value, _: {name: _path(value)}


_READERS: Mapping[str, Callable[[object, Path], dict[str, object]]] = {
    "image": _image,
    "command": _command,
    "name": _matching("name", _NAME, "letters, digits and _ . -, at most 64, beginning with a letter"),
    "cpus": _count,
    "memory": _memory,
    "time": _time,
    "directory": _directory,
    "shares": _shares,
    "network": _network,
    "boot": _boot,
    "array": _array,
    "queue": _matching("queue", _WORD, "the name of a queue (Slurm: partition)"),
    "account": _matching("account", _WORD, "the name of an account"),
    "environment": _environment,
    "output": _output("output"),
    "errors": _output("errors"),
}
