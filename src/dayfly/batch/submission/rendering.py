"""What the scripts of all batch systems have in common. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from dayfly.batch.jobshell.request import NONE
from dayfly.batch.submission.description import JobSpec
from dayfly.errors import Refused

TASK = "DAYFLY_TASK"
"""The variable in which each task of an array finds its number, whatever the batch system calls it."""


IN_A_MACHINE = (
    "read -r DAYFLY_HOST </proc/sys/kernel/hostname; "
    "case $DAYFLY_HOST in dayfly-*) ;; *) echo 'dayfly: jobs get no machines on this host' >&2; exit 125 ;; esac"
)
"""What ends a job that runs on a host itself. Some batch systems take wishes for a machine without knowing them, so a host that
nobody has set up for machines would run such a job as any other."""


def script(job: JobSpec, lines: Iterable[str], task: str) -> str:
    """The script: the batch system's `lines`, and then the job. `task` is what the shell makes of a task's number: `$INDEX`."""
    return "\n".join(["#!/bin/sh", *lines, *commands(job, task), ""])


def only_in_a_machine(job: JobSpec) -> list[str]:
    """`IN_A_MACHINE`, for a job that wants one."""
    return [] if job.image == NONE else [IN_A_MACHINE]


def commands(job: JobSpec, task: str) -> list[str]:
    """What a shell does for the job: it sets its variables, and becomes its command."""
    variables = [f"export {name}={quoted(value)}" for name, value in job.environment.items()]
    variables += [f'export {TASK}="{task}"'] if job.is_array else []
    return [*variables, f"exec {' '.join(map(quoted, job.command))}"]


def quoted(word: str) -> str:
    """A word for a shell. Where it has several lines, none but the first begins with the word's own text: Grid Engine looks for
    its directives in all of a script."""
    return shlex.quote(word).replace("\n", "\n''")


def outputs(job: JobSpec, number: str, task: str) -> tuple[str, str]:
    """Where the job's output and errors go: as the description says, or by the job's number; each task has its own."""
    mine = f".{task}" if job.is_array else ""
    unsaid = f"{job.name}.{number}{mine}"
    return (
        f"{job.output}{mine}" if job.output else f"{unsaid}.out",
        f"{job.errors}{mine}" if job.errors else f"{unsaid}.err",
    )


def of_tasks(job: JobSpec, number: str) -> tuple[str, str]:
    """The same by the number of the job, with `{task}` for that of a task."""
    return outputs(job, number, "{task}")


def one_share(job: JobSpec, system: str) -> str:
    """The folder to share, where a batch system takes one. Raises `Refused` for more."""
    if len(job.shares) > 1:
        raise Refused(f"{system} takes one folder to share in a job's request", "share a parent, or have the site share it")
    return job.shares[0] if job.shares else ""


def mebibytes(size: int) -> int:
    """A size in MiB, rounded up."""
    return -(-size // 1024**2)


def clock(seconds: int) -> str:
    """`HH:MM:SS`, with as many hours as there are."""
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
