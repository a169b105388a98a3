"""Doing what `setup` renders, by qconf: programs into the cell's folder, complexes, queues' methods, the server's JSV.

What there is already stays as it is where it says the same, and stands against it where it says something else: all of that is
told at once, before anything is changed.
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
    """Where Grid Engine is (SGE_ROOT, its cell), which queues' jobs may have machines, and what the hosts have where."""

    root: Path
    cell: str
    queues: tuple[str, ...]
    program: str
    settings_file: str

    @property
    def folder(self) -> Path:
        """Where the programs are that every host calls."""
        return self.root / self.cell / "common/dayfly"


@dataclass(frozen=True)
class Plan:
    """What is to be done: files with their content, lines for the complexes, queues' attributes, the global configuration's."""

    files: Mapping[Path, str]
    complexes: tuple[str, ...]
    queues: Mapping[str, Mapping[str, str]]
    configuration: Mapping[str, str]

    def __bool__(self) -> bool:
        return bool(self.files or self.complexes or any(self.queues.values()) or self.configuration)


def plan(wanted: Wanted, settings: Settings) -> Plan:
    """See what is missing. Raises `FileErrors` with all that stands against it, `ProgramFailed` without a Grid Engine."""
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
        errors.append(FieldError(wanted.program, "is not there", "--program says where the hosts have dayfly"))
    if errors:
        raise FileErrors("Grid Engine's configuration", errors)
    return Plan(
        {path: text for path, text in there.items() if not path.is_file() or path.read_text() != text},
        tuple(line for name, line in setup.complexes().items() if name not in known),
        queues,
        configuration,
    )


def _missing(where: str, said: Mapping[str, str], wanted: Mapping[str, str], errors: list[FieldError]) -> dict[str, str]:
    """What is not said yet; a mistake for what is said otherwise."""
    missing = {}
    for name, value in wanted.items():
        if said.get(name, "") in _NONE:
            missing[name] = value
        elif said[name] != value:
            hint = f"let that call {value.partition(' ')[0].removeprefix('script:').removeprefix('root@')}, or remove it"
            errors.append(FieldError(where, f"has {name} {said[name]}", hint))
    return missing


def do(what: Plan) -> list[str]:
    """Do it: what was done, in lines. Raises `ProgramFailed`."""
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
    """Hand a file to qconf: some of its options want the thing's name as the file's."""
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
    """Lines, those that end in a backslash with the next."""
    return [line for line in re.sub(r"\\\n\s*", "", text).splitlines() if line.strip()]


def _attributes(text: str) -> dict[str, str]:
    """What qconf shows: a name and a value a line."""
    pairs = (line.split(maxsplit=1) for line in _joined(text) if not line.startswith("#"))
    return {pair[0]: pair[1].strip() if len(pair) > 1 else "" for pair in pairs}
