"""What batch systems read of a job's script, as their documentation and source say it: the directives, and who is told them.

None of PBS, Torque and HTCondor is to be had where the tests run, so these stand for their parsers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

Options = list[tuple[str, str]]

_PART = re.compile(r"""([^\s"'\\]+)|"([^"]*)"|'([^']*)'|\\(.)""")
_DIRECTIVE_WORD = re.compile(r"""(?:[^\s"'\\]|"[^"]*"|'[^']*'|\\.)+""")


def of_slurm(script: str) -> Options:
    """sbatch(1): lines that begin with #SBATCH, before the first command."""
    said = [line.removeprefix("#SBATCH ") for line in _head(script) if line.startswith("#SBATCH ")]
    return [(name, value) for name, _, value in (text.partition("=") for text in said)]


def of_gridengine(script: str) -> Options:
    """submit(1), -C: lines that begin with #$, wherever in the script they are."""
    return _options(words(line.removeprefix("#$")) for line in script.split("\n") if line.startswith("#$"))


def of_pbs(script: str) -> Options:
    """qsub(1B): lines that begin with #PBS, before the first command. So does Torque."""
    return _options(words(line.removeprefix("#PBS")) for line in _head(script) if line.startswith("#PBS"))


def of_htcondor(description: str) -> Options:
    """condor_submit(1): `NAME = VALUE` lines, and `queue COUNT` at the end. Macros stay as they are."""
    lines = [line for line in description.split("\n") if line.strip() and not line.startswith("#")]
    assert not any(line.endswith("\\") for line in lines), "a backslash at the end joins lines"
    assert re.fullmatch(r"queue [0-9]+", lines[-1])
    pairs = [line.partition(" = ") for line in lines[:-1]]
    assert all(equals for _, equals, _ in pairs), lines
    return [*((name, value) for name, _, value in pairs), ("queue", lines[-1].removeprefix("queue "))]


def words(line: str) -> list[str]:
    """A directive's words (make_argv in qsub's source): both kinds of quotes, within which everything is itself; a backslash."""
    return [_PART.sub(lambda part: "".join(part.groups(default="")), word[0]) for word in _DIRECTIVE_WORD.finditer(line)]


def _head(script: str) -> Iterator[str]:
    for line in script.split("\n"):
        if line.strip() and not line.startswith("#"):
            return
        yield line


def _options(lines: Iterable[list[str]]) -> Options:
    found: Options = []
    for line in lines:
        option, *values = line  # each of ours has a line of its own
        assert re.fullmatch(r"-[A-Za-z]+", option), line
        assert len(values) == (2 if option == "-pe" else 1), line
        found.append((option, " ".join(values)))
    return found
