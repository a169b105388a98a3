"""The batch systems that jobs can be submitted to, and which one this host has."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence

from dayfly.batch.gridengine import submit as gridengine
from dayfly.batch.slurm import submit as slurm
from dayfly.batch.submit.description import SubmittedJob
from dayfly.batch.submit.states import State
from dayfly.errors import NotFound, Refused
from dayfly.values import dataclass

LOCAL = "local"


@dataclass(frozen=True)
class System:
    """A batch system's words: the command that takes a job's script on stdin, and what reads its answers."""

    name: str
    submit: Sequence[str]
    render: Callable[[SubmittedJob], str]
    number: Callable[[str], str]
    ask: Callable[[str], list[str]]
    state: Callable[[str, int, str], State]
    cancel: Callable[[str], list[str]]
    task_mark: str
    """How the number and a task's number stand in the names of output files: `{job}.{task}`."""


SYSTEMS: Mapping[str, System] = {
    name: System(name, module.SUBMIT, module.render, module.number, module.ask, module.state, module.cancel, "{job}.{task}")
    for name, module in (("slurm", slurm), ("gridengine", gridengine))
}


def find(name: str) -> System:
    """The batch system of this name, or, where none is said, the one that this host has. Raises `NotFound` or `Refused`."""
    if name:
        return SYSTEMS[name]
    there = present(os.environ)
    if not there:
        raise NotFound("no batch system was found here", "--batch local runs the job on this host")
    if len(there) > 1:
        raise Refused(f"this host has several batch systems: {', '.join(there)}", "name one by --batch")
    return SYSTEMS[there[0]]


def present(variables: Mapping[str, str]) -> list[str]:
    """Which of them this host has, by their commands. Grid Engine and PBS both have a qsub; only the one has a qconf."""
    path = variables.get("PATH", os.defpath)
    marks = {"slurm": ("sbatch",), "gridengine": ("qsub", "qconf")}
    return [name for name, programs in marks.items() if all(shutil.which(program, path=path) for program in programs)]
