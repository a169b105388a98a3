"""The script of a job of OpenPBS or Torque, for a machine that cannot see it.

pbs_mom keeps scripts in `mom_priv/jobs`, where nobody but root can list, and so nobody but root can share. As it was built, it
tells the job's shell the script's name on stdin (`SHELL_INVOKE`) or as an argument (`SHELL_USE_ARGV`), or it makes the script
itself the shell's stdin (src/resmom/start_exec.c of both).

For a script that is told by its name, the job shell makes it its own stdin, and the machine's shell reads it from another
descriptor: what the script runs finds nothing on stdin, as on the host, where it would eat the script otherwise. Where the script
itself is stdin, it is so in the machine.

The name on stdin is a command for the shell: OpenPBS writes a backslash before each bracket, which tasks of job arrays have in
their names, and `cd FOLDER;` in front for a job with a private sandbox (`finish_exec`).

Imported only for jobs that have a machine under these batch systems.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from dayfly import files
from dayfly.errors import DayflyError, Refused

FROM_STDIN = ("/bin/sh", "-c", 'exec "$@" /dev/fd/9 9<&0 </dev/null', "sh")
"""What stands before the machine's shell, and has it read its script. The redirections are those of its command alone: in some
shells, descriptors that are opened for the shell itself end there.
"""
_LOGIN_OR_SCRIPT = ("csh", "tcsh")
"""Shells that take `-l` alone: with a script, they are none that people log in to."""
_SUFFIX = ".SC"
_LIMIT = 16 * 1024**2


def on_stdin(command: Sequence[str]) -> tuple[str, ...]:
    """Make the job's script our stdin, where `command` is a shell that is told its name; what the machine is to run then.

    Raises `DayflyError` when the script cannot be read.
    """
    arguments = tuple(command[1:])
    if arguments and _is_script(arguments[-1]):
        _become_stdin(_opened(arguments[-1]))
        return _from_stdin(command[0], arguments[:-1])
    if arguments in ((), ("-l",)) and stat.S_ISFIFO(os.fstat(0).st_mode):
        descriptor, is_script = _told()
        _become_stdin(descriptor)
        return _from_stdin(command[0], arguments) if is_script else tuple(command)
    return tuple(command)


def _from_stdin(shell: str, arguments: tuple[str, ...]) -> tuple[str, ...]:
    if shell.rpartition("/")[2] in _LOGIN_OR_SCRIPT:
        arguments = tuple(argument for argument in arguments if argument != "-l")
    return (*FROM_STDIN, shell, *arguments)


def named(content: bytes) -> tuple[str, str]:
    """The folder to go to first (empty: none) and the script, where they are all that pbs_mom wrote. Empty: it is not. Pure."""
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


def _told() -> tuple[int, bool]:
    """The script that the pipe on stdin names, or (False) what else pbs_mom writes into the pipe until it closes it."""
    content = b""
    while chunk := os.read(0, 65536):
        content += chunk
        folder, path = named(content)
        if path:
            _enter(folder)
            return _opened(path), True
        if len(content) > _LIMIT:
            raise Refused("the job's script is larger than 16 MiB", "let it be a short one that calls another")
    descriptor = os.memfd_create("stdin", os.MFD_CLOEXEC)
    files.write_all(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor, False


def _enter(folder: str) -> None:
    """The machine's shell starts where we are."""
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
        raise DayflyError(f"the job's script is no file: {path}")
    return descriptor


def _become_stdin(descriptor: int) -> None:
    os.dup2(descriptor, 0)
    os.close(descriptor)
