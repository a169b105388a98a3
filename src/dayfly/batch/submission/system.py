"""Batch systems for `dayfly submit`, and which of them this host has."""

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


class Adapter(Protocol):
    """The interface of the module `submit` of each adapter: it renders jobs and reads answers. All of it is pure."""

    @property
    def SUBMIT(self) -> Sequence[str]:  # noqa: N802 (a constant of the module)
        """The command that reads the output of `render` on stdin."""

    @property
    def MARKS(self) -> Sequence[str]:  # noqa: N802
        """The programs that identify this batch system on a host."""

    def render(self, job: JobSpec) -> str:
        """The job for this batch system. Raises `Refused` for options that it does not have."""

    def number(self, answer: str) -> str:
        """The job's number in the output of `SUBMIT`. Raises `Refused`."""

    def outputs(self, job: JobSpec, number: str) -> tuple[str, str]:
        """The files of the output and the errors of the job of this number; `{task}` stands for the number of a task."""

    def ask(self, number: str) -> list[str]:
        """The command that prints a job's state."""

    def state(self, answer: str, status: int, number: str) -> State:
        """The state by that command's output and exit status. Raises `NoAnswer` if it failed."""

    def ask_status(self, number: str, tasks: int) -> list[str]:
        """The command that prints the exit status of an ended job of so many tasks; empty if there is none."""

    def status(self, answer: str, number: str, tasks: int) -> int | None:
        """The exit status by that command's output; None: unknown."""

    def task(self, batch: Mapping[str, str]) -> Task:
        """The task that a usage record belongs to, by its batch identity."""

    def cancel(self, number: str) -> list[str]:
        """The command that ends a job."""


@dataclass(frozen=True)
class System:
    """A batch system."""

    name: str
    adapter: Adapter

    def render(self, job: JobSpec) -> str:
        """The job for this batch system. Raises `Refused` for options that it does not have."""
        check_folders(job)
        return self.adapter.render(job)


Systems = Mapping[str, System]
"""All batch systems by name: `dayfly.batch.systems.SYSTEMS`."""


def find(name: str, systems: Systems) -> System:
    """The batch system of this name, or, if the name is empty, the one that this host has. Raises `NotFound` or `Refused`."""
    if name:
        return systems[name]
    there = present(os.environ, systems)
    if not there:
        raise NotFound("no batch system was found here", "run the job on this host with --batch local")
    if len(there) > 1:
        raise Refused(f"this host has several batch systems: {', '.join(there)}", "choose one with --batch")
    return systems[there[0]]


def check_command(system: System, variables: Mapping[str, str], systems: Systems) -> None:
    """Raise `Refused` if the command belongs to another batch system with a command of the same name: that would run the job
    without its requests.
    """
    command = system.adapter.SUBMIT[0]
    owners = [name for name in present(variables, systems) if systems[name].adapter.SUBMIT[0] == command]
    if owners and system.name not in owners:
        raise Refused(f"{command} on this host belongs to {' and '.join(owners)}, not to {system.name}", "see --batch")


def present(variables: Mapping[str, str], systems: Systems) -> list[str]:
    """The batch systems that this host has, by their commands. Grid Engine, PBS and Torque all have a qsub, and each has a
    command that the others do not have.
    """
    path = variables.get("PATH", os.defpath)
    return [name for name, system in systems.items() if all(shutil.which(program, path=path) for program in system.adapter.MARKS)]
