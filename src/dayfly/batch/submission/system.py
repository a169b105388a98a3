"""What a batch system is to `dayfly submit`, and which of them this host has."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Protocol

from dayfly.batch.submission.description import JobSpec, check_folders
from dayfly.batch.submission.states import State
from dayfly.batch.submission.tasks import Task
from dayfly.errors import NotFound, Refused
from dayfly.values import dataclass

LOCAL = "local"


class Words(Protocol):
    """What the module `submit` of each batch system has: its words for a job, and what reads its answers. All of it is pure."""

    @property
    def SUBMIT(self) -> Sequence[str]:  # noqa: N802 (a constant of the module)
        """The command that takes on stdin what `render` makes of a job."""

    @property
    def MARKS(self) -> Sequence[str]:  # noqa: N802
        """The programs by which a host is known to have this batch system, and no other one."""

    def render(self, job: JobSpec) -> str:
        """The job in its words. Raises `Refused` for what it has none for."""

    def number(self, answer: str) -> str:
        """The job's number in what `SUBMIT` says. Raises `Refused`."""

    def outputs(self, job: JobSpec, number: str) -> tuple[str, str]:
        """Where the output and the errors of the job of this number go; `{task}` stands for the number of a task."""

    def ask(self, number: str) -> list[str]:
        """The command that says where a job is."""

    def state(self, answer: str, status: int, number: str) -> State:
        """Where it is, by what that command says and ended with. Raises `NoAnswer` where that says nothing."""

    def told(self, number: str, tasks: int) -> list[str]:
        """The command that says how an ended job of so many tasks ended; empty where there is none."""

    def status(self, answer: str, number: str, tasks: int) -> int | None:
        """How it ended, by what that command says; None: that is not known."""

    def task(self, batch: Mapping[str, str]) -> Task:
        """Whose machine a usage record is of, by what it says of the batch job."""

    def cancel(self, number: str) -> list[str]:
        """The command that ends a job."""


@dataclass(frozen=True)
class System:
    """A batch system."""

    name: str
    words: Words

    def render(self, job: JobSpec) -> str:
        """The job in its words. Raises `Refused` for what it has none for."""
        check_folders(job)
        return self.words.render(job)


Systems = Mapping[str, System]
"""The batch systems that there are, by their names: `dayfly.batch.systems.SYSTEMS`."""


def find(name: str, systems: Systems) -> System:
    """The batch system of this name, or, where none is said, the one that this host has. Raises `NotFound` or `Refused`."""
    if name:
        return systems[name]
    there = present(os.environ, systems)
    if not there:
        raise NotFound("no batch system was found here", "--batch local runs the job on this host")
    if len(there) > 1:
        raise Refused(f"this host has several batch systems: {', '.join(there)}", "name one by --batch")
    return systems[there[0]]


def check_command(system: System, variables: Mapping[str, str], systems: Systems) -> None:
    """Refuse, with `Refused`, to give a job to another batch system whose command is called the same: that would run it
    as if nothing had been asked for."""
    command = system.words.SUBMIT[0]
    owners = [name for name in present(variables, systems) if systems[name].words.SUBMIT[0] == command]
    if owners and system.name not in owners:
        raise Refused(f"{command} is the one of {' and '.join(owners)} here, and not of {system.name}", "see --batch")


def present(variables: Mapping[str, str], systems: Systems) -> list[str]:
    """Which of them this host has, by their commands. Grid Engine, PBS and Torque all have a qsub, and each a command that the
    others do not have."""
    path = variables.get("PATH", os.defpath)
    return [name for name, system in systems.items() if all(shutil.which(program, path=path) for program in system.words.MARKS)]
