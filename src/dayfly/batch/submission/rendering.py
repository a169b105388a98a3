"""The common parts of the scripts for all batch systems. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from dayfly.batch.jobshell.request import NONE
from dayfly.batch.submission.description import JobSpec
from dayfly.errors import Refused

TASK = "DAYFLY_TASK"
"""The variable with the number of an array's task, the same under all batch systems."""


IN_A_MACHINE = (
    "read -r DAYFLY_HOST </proc/sys/kernel/hostname; "
    "case $DAYFLY_HOST in dayfly-*) ;; *) echo 'dayfly: jobs get no machines on this host' >&2; exit 125 ;; esac"
)
"""Ends a job that runs on a host itself. Some batch systems accept unknown requests, so a host that is not set up for machines
would run such a job natively.
"""


def script(job: JobSpec, lines: Iterable[str], task: str) -> str:
    """The script: the batch system's `lines`, and then the job. `task` is the shell's expression for a task's number:
    `$INDEX`.
    """
    return "\n".join(["#!/bin/sh", *lines, *commands(job, task), ""])


def only_in_a_machine(job: JobSpec) -> list[str]:
    """`IN_A_MACHINE`, for a job that requests one."""
    return [] if job.image == NONE else [IN_A_MACHINE]


def commands(job: JobSpec, task: str) -> list[str]:
    """The shell commands of the job: set its variables, and exec its command."""
    variables = [f"export {name}={quoted(value)}" for name, value in job.environment.items()]
    variables += [f'export {TASK}="{task}"'] if job.is_array else []
    return [*variables, f"exec {' '.join(map(quoted, job.command))}"]


def quoted(word: str) -> str:
    """A word, quoted for a shell. Continuation lines do not begin with the word's own text: Grid Engine looks for its directives
    in the whole script.
    """
    return shlex.quote(word).replace("\n", "\n''")


def outputs(job: JobSpec, number: str, task: str) -> tuple[str, str]:
    """The files of the job's output and errors: by the description, or by the job's number; each task has its own."""
    mine = f".{task}" if job.is_array else ""
    unsaid = f"{job.name}.{number}{mine}"
    return (
        f"{job.output}{mine}" if job.output else f"{unsaid}.out",
        f"{job.errors}{mine}" if job.errors else f"{unsaid}.err",
    )


def of_tasks(job: JobSpec, number: str) -> tuple[str, str]:
    """The same for the job's number, with `{task}` for that of a task."""
    return outputs(job, number, "{task}")


def one_share(job: JobSpec, system: str) -> str:
    """The shared folder, for a batch system that supports only one. Raises `Refused` for more."""
    if len(job.shares) > 1:
        raise Refused(f"{system} supports only one shared folder in a job's request", "share a parent folder")
    return job.shares[0] if job.shares else ""


def mebibytes(size: int) -> int:
    """A size in MiB, rounded up."""
    return -(-size // 1024**2)


def clock(seconds: int) -> str:
    """`HH:MM:SS`; hours may exceed 24."""
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
