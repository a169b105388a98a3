"""Applies what `setup` renders, by qmgr. Existing resources stay; the hook is imported again each time.

It needs root on the server's host, who must be a manager of PBS too: qmgr itself writes a hook's text into the server's folder
(OpenPBS, src/cmds/qmgr.c), and its exit status says whether a resource or hook exists.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from dayfly import process
from dayfly.batch.adapters.pbs import setup
from dayfly.errors import ProgramMissing
from dayfly.settings import Settings

_HINT = "run it as root, as a manager of PBS, on its server's host"
_CONFIGURATION = "/etc/pbs.conf"
_EXEC = "/opt/pbs"
"""The folder of OpenPBS's packages."""


def do(settings: Settings, program: str, settings_file: str) -> list[str]:
    """Apply it. Returns the commands given to qmgr. Raises `ProgramFailed`, and `ProgramMissing` without a PBS."""
    qmgr = _program()
    commands = [command for name, command in setup.requests().items() if not _there(qmgr, "resource", name)]
    if not _there(qmgr, "hook", setup.HOOK):
        commands.append(f"create hook {setup.HOOK}")
    for command in commands:
        _tell(qmgr, command)
    with tempfile.TemporaryDirectory(prefix="dayfly-") as folder:
        path = Path(folder) / setup.FILE
        path.write_text(setup.hook(settings, program, settings_file))
        for command in setup.settings_of_hook(str(path)):
            _tell(qmgr, command)
    return [*commands, *setup.settings_of_hook(setup.FILE)]


def exec_folder(configuration: str) -> str:
    """The folder that PBS is installed in, by its configuration (pbs.conf). Pure."""
    pairs = [line.split("#")[0].partition("=") for line in configuration.splitlines()]
    said = [value.strip() for name, _, value in pairs if name.strip() == "PBS_EXEC"]
    return said[-1] if said and said[-1].startswith("/") else _EXEC


def _program() -> str:
    """The path of qmgr. It is in PBS's own folder, which sudo removes from PATH."""
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
