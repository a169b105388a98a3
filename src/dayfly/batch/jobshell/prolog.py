"""A site's program that runs before each task, as its user, and changes its environment: Slurm's TaskProlog.

Slurm would run it after the plugin, when the task is already the job shell. Imported only where a site has one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from dayfly import process
from dayfly.errors import DayflyError
from dayfly.values import dataclass

_LIMIT = 1024 * 1024
_PLAIN = frozenset({b"HOME", b"USER", b"LOGNAME", b"TMPDIR", b"LANG", b"TZ"})


class PrologFailed(DayflyError):
    """The task does not run, and ends with the prolog's status."""

    def __init__(self, program: str, status: int) -> None:
        super().__init__(f"the site's TaskProlog failed with status {status}: {program}", "ask the site's administrator")
        self.exit_status = status


@dataclass(frozen=True)
class Said:
    """A prolog's output: the variables to set (None: to remove), and the text to print before the job's output."""

    variables: Mapping[bytes, bytes | None]
    text: bytes


def run(program: str, environment: Mapping[bytes, bytes], *, guarded: bool = False) -> dict[bytes, bytes]:
    """Run it, print its text, and return the changed environment.

    If all jobs have machines (`guarded`), this program is the only one of the job on the host, so it gets only variables that
    do not select code, unlike PATH, BASH_ENV or LD_PRELOAD. As under Slurm, its stderr is discarded, and the task ends with
    its status if it fails. Raises `PrologFailed`, and `ProgramMissing` or `ProgramFailed` if it cannot be executed.
    """
    output = os.memfd_create("prolog", os.MFD_CLOEXEC)
    passed = {**os.environb, **_harmless(environment)} if guarded else environment
    variables = {os.fsdecode(name): os.fsdecode(value) for name, value in passed.items()}
    variables["SLURM_TASK_PID"] = str(os.getpid())
    try:
        status, _ = process.spawn([program], stdout=output, env=variables).wait()
        said = parse(os.pread(output, _LIMIT, 0))
    finally:
        os.close(output)
    _print(said.text)
    if status:
        raise PrologFailed(program, status if status > 0 else 128 - status)
    changed = {**environment, **said.variables}
    return {name: value for name, value in changed.items() if value is not None}


def _harmless(environment: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """The variables that do not influence which code a program runs."""
    return {
        name: value
        for name, value in environment.items()
        if name in _PLAIN or (name.startswith(b"SLURM_") and name != b"SLURM_CONF")
    }


def parse(output: bytes) -> Said:
    """Read lines `export NAME=VALUE`, `unset NAME` and `print TEXT` (slurm.conf(5), TaskProlog). Others are ignored."""
    variables: dict[bytes, bytes | None] = {}
    text: list[bytes] = []
    for line in output.split(b"\n"):
        verb, _, rest = line.partition(b" ")
        name, equals, value = rest.lstrip().partition(b"=")
        if b"\0" in line:
            continue
        if verb == b"export" and equals and name.strip():
            variables[name.strip()] = value
        elif verb == b"unset" and rest.strip() and not equals:
            variables[rest.strip()] = None
        elif verb == b"print":
            text.append(rest + b"\n")
    return Said(variables, b"".join(text))


def _print(text: bytes) -> None:
    try:
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()
    except OSError as error:
        raise DayflyError(f"stdout cannot be written to: {error.strerror}") from error
