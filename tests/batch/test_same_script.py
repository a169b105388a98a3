"""The same job script, natively and in a machine: the same output, the same errors, the same end."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.framework.batch import BatchSystem, JobRequest

SCRIPTS = {path.name: path.read_text() for path in sorted((Path(__file__).parent / "scripts").iterdir())}
_PROGRAM = """
#include <stdio.h>
int main(int count, char **words) { for (int i = 1; i < count; i++) puts(words[i]); return count + 40; }
"""


@pytest.mark.parametrize("name", SCRIPTS)
def test_natively_and_in_a_machine(batch: BatchSystem, name: str) -> None:
    if "./compiled" in SCRIPTS[name]:
        batch.compile(_PROGRAM, "compiled")
    native, virtual = (batch.submit(SCRIPTS[name], JobRequest(image=image)) for image in (None, "debian:12"))
    ends = [batch.ended(job) for job in (native, virtual)]
    assert batch.output(virtual) == batch.output(native)
    assert _neutral(batch, virtual) == _neutral(batch, native)
    assert ends[0] == ends[1]
    assert batch.output(native) or batch.errors(native)


def _neutral(batch: BatchSystem, job: str) -> str:
    """What a job wrote to stderr, without what the shell's messages say of its number, its node and its processes."""
    return re.sub(r"(line \d+:) +\d+ ", r"\1 PID ", batch.neutral(batch.errors(job), job))
