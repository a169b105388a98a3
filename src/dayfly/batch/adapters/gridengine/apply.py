"""Applies what `setup` renders, by qconf: programs in the cell's folder, complexes, queues' methods, the server's JSV.

Existing configuration that is equal stays. Existing configuration that differs is a conflict: all conflicts are reported at once,
before anything is changed.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from dayfly import files, process
from dayfly.batch.adapters.gridengine import setup
from dayfly.errors import FieldError, FileErrors
from dayfly.settings import Settings
from dayfly.values import dataclass

_NONE = ("", "none", "NONE")


@dataclass(frozen=True)
class Wanted:
    """Where Grid Engine is (SGE_ROOT, its cell), the queues whose jobs may have machines, and the paths on the hosts."""

    root: Path
    cell: str
    queues: tuple[str, ...]
    program: str
    settings_file: str

    @property
    def folder(self) -> Path:
        """The folder of the programs that every host calls."""
        return self.root / self.cell / "common/dayfly"


@dataclass(frozen=True)
class Plan:
    """The changes: files with their content, lines of the complexes, attributes of queues and of the global configuration."""

    files: Mapping[Path, str]
    complexes: tuple[str, ...]
    queues: Mapping[str, Mapping[str, str]]
    configuration: Mapping[str, str]

    def __bool__(self) -> bool:
        return bool(self.files or self.complexes or any(self.queues.values()) or self.configuration)


def plan(wanted: Wanted, settings: Settings) -> Plan:
    """Find out what is missing. Raises `FileErrors` with all conflicts, `ProgramFailed` without a Grid Engine."""
    errors: list[FieldError] = []
    texts = setup.files(settings, wanted.program, wanted.settings_file, wanted.root)
    there = {wanted.folder / name: text for name, text in texts.items()}
    known = {line.split()[0] for line in _qconf("-sc").splitlines() if line.split()}
    queues = {}
    for name in wanted.queues:
        said = _attributes(_qconf("-sq", name))
        queues[name] = _missing(f"queue {name}", said, setup.queue(settings, wanted.folder), errors)
    said = _attributes(_qconf("-sconf", "global"))
    configuration = _missing("the global configuration", said, setup.configuration(wanted.folder), errors)
    if not Path(wanted.program).is_file():
        errors.append(FieldError(wanted.program, "does not exist", "give the path of dayfly on the hosts with --program"))
    if errors:
        raise FileErrors("Grid Engine's configuration", errors)
    return Plan(
        {path: text for path, text in there.items() if not path.is_file() or path.read_text() != text},
        tuple(line for name, line in setup.complexes().items() if name not in known),
        queues,
        configuration,
    )


def _missing(where: str, said: Mapping[str, str], wanted: Mapping[str, str], errors: list[FieldError]) -> dict[str, str]:
    """The attributes that are missing; those with other values are errors."""
    missing = {}
    for name, value in wanted.items():
        if said.get(name, "") in _NONE:
            missing[name] = value
        elif said[name] != value:
            hint = f"have it call {value.partition(' ')[0].removeprefix('script:').removeprefix('root@')}, or remove it"
            errors.append(FieldError(where, f"has {name} {said[name]}", hint))
    return missing


def do(what: Plan) -> list[str]:
    """Apply the changes. Returns lines that describe them. Raises `ProgramFailed`."""
    done = []
    for path, text in what.files.items():
        path.parent.mkdir(mode=0o755, exist_ok=True)
        files.write(path, text.encode(), 0o755)
        done.append(f"wrote {path}")
    if what.complexes:
        _given("complexes", "\n".join([_qconf("-sc").rstrip("\n"), *what.complexes]) + "\n", "-Mc")
        done += [f"complex {line.split()[0]}" for line in what.complexes]
    for queue, attributes in what.queues.items():
        for name, value in attributes.items():
            _qconf("-rattr", "queue", name, value, queue)
            done.append(f"queue {queue}: {name} {value}")
    if what.configuration:
        kept = [line for line in _joined(_qconf("-sconf", "global")) if line.split()[0] not in what.configuration]
        lines = [line for line in kept if not line.startswith("#")] + [
            f"{name} {value}" for name, value in what.configuration.items()
        ]
        _given("global", "\n".join(lines) + "\n", "-Mconf")
        done += [f"global configuration: {name} {value}" for name, value in what.configuration.items()]
    return done


def _given(name: str, text: str, option: str) -> None:
    """Pass a file to qconf: for some of its options the file must have the object's name."""
    with tempfile.TemporaryDirectory(prefix="dayfly-") as folder:
        path = Path(folder) / name
        path.write_text(text)
        _qconf(option, str(path))


def _qconf(*words: str) -> str:
    process.find("qconf", "gridengine-client")
    done = process.run(
        ["qconf", *words], env={**os.environ, "LC_ALL": "C"}, hint="as a manager of Grid Engine, on an administrative host"
    )
    return done.output.decode(errors="replace")


def _joined(text: str) -> Sequence[str]:
    """Lines, joined where one ends in a backslash."""
    return [line for line in re.sub(r"\\\n\s*", "", text).splitlines() if line.strip()]


def _attributes(text: str) -> dict[str, str]:
    """Read qconf's output: a name and a value in each line."""
    pairs = (line.split(maxsplit=1) for line in _joined(text) if not line.startswith("#"))
    return {pair[0]: pair[1].strip() if len(pair) > 1 else "" for pair in pairs}
