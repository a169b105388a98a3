"""Doing what `setup` renders, by qmgr, as a manager of PBS. What is there already stays; the hook is imported anew each time."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from dayfly import process
from dayfly.batch.pbs import setup
from dayfly.settings import Settings

_HINT = "as a manager of PBS, on its server's host"


def do(settings: Settings, program: str, settings_file: str) -> list[str]:
    """Do it: what qmgr was told, in lines. Raises `ProgramFailed`, and `ProgramMissing` without a PBS."""
    process.find("qmgr", "openpbs-client")
    told = [command for name, command in setup.wishes().items() if not _there("resource", name)]
    if not _there("hook", setup.HOOK):
        told.append(f"create hook {setup.HOOK}")
    for command in told:
        _qmgr(command)
    with tempfile.TemporaryDirectory(prefix="dayfly-") as folder:
        path = Path(folder) / setup.FILE
        path.write_text(setup.hook(settings, program, settings_file))
        for command in setup.settings_of_hook(str(path)):
            _qmgr(command)
    return [*told, *setup.settings_of_hook(setup.FILE)]


def _there(kind: str, name: str) -> bool:
    return process.run(["qmgr", "-c", f"list {kind} {name}"], env=_environment(), check=False).status == 0


def _qmgr(command: str) -> None:
    process.run(["qmgr", "-c", command], env=_environment(), hint=_HINT)


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C"}
