"""A site's program that runs before each task, as its user, and says what changes in its environment: Slurm's TaskProlog.

Slurm would run it after its plugin had its turn, when the task is the job shell already. Imported only where a site has one.
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
        super().__init__(f"the site's TaskProlog failed with status {status}: {program}", "its administrator knows what it does")
        self.exit_status = status


@dataclass(frozen=True)
class Said:
    """What a prolog wrote: the variables to set (None: to remove), and the text to print before the job's own."""

    variables: Mapping[bytes, bytes | None]
    text: bytes


def run(program: str, environment: Mapping[bytes, bytes], *, guarded: bool = False) -> dict[bytes, bytes]:
    """Run it, print what it has to say; the environment as it wants it.

    Where all jobs have machines (`guarded`), the program runs on the host as the one thing that does, so it has only the job's
    variables that choose no code: a PATH, BASH_ENV or LD_PRELOAD of the user's would.
    As under Slurm, what it writes to stderr is nobody's, and the task ends with its status when it fails.
    Raises `PrologFailed`, and `ProgramMissing` or `ProgramFailed` when it cannot be executed.
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
    """The variables that say something of the job, and not where a program finds code."""
    return {
        name: value
        for name, value in environment.items()
        if name in _PLAIN or (name.startswith(b"SLURM_") and name != b"SLURM_CONF")
    }


def parse(output: bytes) -> Said:
    """Read `export NAME=VALUE`, `unset NAME` and `print TEXT`, one a line (slurm.conf(5), TaskProlog). Others mean nothing."""
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
