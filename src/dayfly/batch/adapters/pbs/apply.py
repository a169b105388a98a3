"""Doing what `setup` renders, by qmgr. What is there already stays; the hook is imported anew each time.

It takes root on the server's host, who is a manager of PBS too: qmgr itself writes a hook's text into the server's folder
(OpenPBS, src/cmds/qmgr.c), and says by its status whether there is such a resource or hook.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from dayfly import process
from dayfly.batch.adapters.pbs import setup
from dayfly.errors import ProgramMissing
from dayfly.settings import Settings

_HINT = "as root, and as a manager of PBS, on its server's host"
_CONFIGURATION = "/etc/pbs.conf"
_EXEC = "/opt/pbs"
"""Where OpenPBS's packages put it."""


def do(settings: Settings, program: str, settings_file: str) -> list[str]:
    """Do it: what qmgr was told, in lines. Raises `ProgramFailed`, and `ProgramMissing` without a PBS."""
    qmgr = _program()
    told = [command for name, command in setup.wishes().items() if not _there(qmgr, "resource", name)]
    if not _there(qmgr, "hook", setup.HOOK):
        told.append(f"create hook {setup.HOOK}")
    for command in told:
        _tell(qmgr, command)
    with tempfile.TemporaryDirectory(prefix="dayfly-") as folder:
        path = Path(folder) / setup.FILE
        path.write_text(setup.hook(settings, program, settings_file))
        for command in setup.settings_of_hook(str(path)):
            _tell(qmgr, command)
    return [*told, *setup.settings_of_hook(setup.FILE)]


def exec_folder(configuration: str) -> str:
    """The folder that PBS is installed in, as its configuration (pbs.conf) says. Pure."""
    pairs = [line.split("#")[0].partition("=") for line in configuration.splitlines()]
    said = [value.strip() for name, _, value in pairs if name.strip() == "PBS_EXEC"]
    return said[-1] if said and said[-1].startswith("/") else _EXEC


def _program() -> str:
    """The path of qmgr, which is in PBS's own folder, and that is on few PATHs: sudo leaves it out."""
    try:
        return process.find("qmgr", "openpbs-client")
    except ProgramMissing:
        try:
            configuration = Path(os.environ.get("PBS_CONF_FILE") or _CONFIGURATION).read_text(errors="replace")
        except OSError:
            configuration = ""
        path = f"{exec_folder(configuration)}/bin/qmgr"
        if not os.access(path, os.X_OK):
            raise
        return path


def _there(qmgr: str, kind: str, name: str) -> bool:
    return process.run([qmgr, "-c", f"list {kind} {name}"], env=_environment(), check=False).status == 0


def _tell(qmgr: str, command: str) -> None:
    process.run([qmgr, "-c", command], env=_environment(), hint=_HINT)


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C"}
