"""The script of a job of OpenPBS or Torque, for a machine that cannot see it.

pbs_mom stores scripts in `mom_priv/jobs`, which only root can list, and so only root could share. Depending on how it was built,
it gives the job's shell the script's name on stdin (`SHELL_INVOKE`) or as an argument (`SHELL_USE_ARGV`), or it makes the script
itself the shell's stdin (src/resmom/start_exec.c of both).

If the script is given by name, the job shell makes it its own stdin, and the machine's shell reads it from another descriptor:
programs in the script find an empty stdin, as on the host, and cannot consume the script. If the script itself is stdin, it is so
in the machine too.

The name on stdin is a command for the shell: OpenPBS writes a backslash before each bracket, as in names of array tasks, and `cd
FOLDER;` in front for a job with a private sandbox (`finish_exec`).

Imported only for jobs that have a machine under these batch systems.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from dayfly import files
from dayfly.errors import DayflyError, Refused

FROM_STDIN = ("/bin/sh", "-c", 'exec "$@" /dev/fd/9 9<&0 </dev/null', "sh")
"""The prefix of the machine's shell, which makes it read its script. The redirections apply to that command only: some shells
close descriptors that are opened for the shell itself.
"""
_LOGIN_OR_SCRIPT = ("csh", "tcsh")
"""Shells that accept `-l` only without a script."""
_SUFFIX = ".SC"
_LIMIT = 16 * 1024**2


def on_stdin(command: Sequence[str]) -> tuple[str, ...]:
    """Make the job's script our stdin, if `command` is a shell that gets its name, and return the command for the machine.

    Raises `DayflyError` if the script cannot be read.
    """
    arguments = tuple(command[1:])
    if arguments and _is_script(arguments[-1]):
        _become_stdin(_opened(arguments[-1]))
        return _from_stdin(command[0], arguments[:-1])
    if arguments in ((), ("-l",)) and stat.S_ISFIFO(os.fstat(0).st_mode):
        descriptor, is_script = _read_name()
        _become_stdin(descriptor)
        return _from_stdin(command[0], arguments) if is_script else tuple(command)
    return tuple(command)


def _from_stdin(shell: str, arguments: tuple[str, ...]) -> tuple[str, ...]:
    if shell.rpartition("/")[2] in _LOGIN_OR_SCRIPT:
        arguments = tuple(argument for argument in arguments if argument != "-l")
    return (*FROM_STDIN, shell, *arguments)


def named(content: bytes) -> tuple[str, str]:
    """The folder to change to first (empty: none) and the script, if pbs_mom wrote nothing else; otherwise both are
    empty. Pure.
    """
    line, newline, rest = content.partition(b"\n")
    folder, path = "", os.fsdecode(line)
    if path.startswith("cd /"):
        folder, _, path = path.removeprefix("cd ").rpartition(";")
    path = path.replace("\\[", "[").replace("\\]", "]")
    if newline and not rest and _is_script(path) and "\0" not in folder + path:
        return folder, path
    return "", ""


def _is_script(path: str) -> bool:
    return path.startswith("/") and path.endswith(_SUFFIX) and "/mom_priv/jobs/" in path


def _read_name() -> tuple[int, bool]:
    """A descriptor of the script that is named on stdin, or (with False) of the other data that pbs_mom writes to the pipe."""
    content = b""
    while chunk := os.read(0, 65536):
        content += chunk
        folder, path = named(content)
        if path:
            _enter(folder)
            return _opened(path), True
        if len(content) > _LIMIT:
            raise Refused("the job's script is larger than 16 MiB", "use a short script that calls another one")
    descriptor = os.memfd_create("stdin", os.MFD_CLOEXEC)
    files.write_all(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor, False


def _enter(folder: str) -> None:
    """Change to the folder: the machine's shell starts in our working directory."""
    try:
        if folder:
            os.chdir(folder)
    except OSError as error:
        raise DayflyError(f"the job's folder cannot be entered: {folder}: {error.strerror}") from error


def _opened(path: str) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise DayflyError(f"the job's script cannot be read: {path}: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DayflyError(f"the job's script is not a file: {path}")
    return descriptor


def _become_stdin(descriptor: int) -> None:
    os.dup2(descriptor, 0)
    os.close(descriptor)
