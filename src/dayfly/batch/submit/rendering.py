"""What the scripts of all batch systems have in common. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from dayfly.batch.submit.description import SubmittedJob

TASK = "DAYFLY_TASK"
"""The variable in which each task of an array finds its number, whatever the batch system calls it."""


def script(job: SubmittedJob, lines: Iterable[str], task: str) -> str:
    """The script: the batch system's `lines`, the job's variables, its command. `task` is the batch system's own variable."""
    variables = [f"export {name}={shlex.quote(value)}" for name, value in job.environment.items()]
    variables += [f'export {TASK}="${{{task}}}"'] if job.is_array else []
    return "\n".join(["#!/bin/sh", *lines, *variables, f"exec {shlex.join(job.command)}", ""])


def outputs(job: SubmittedJob, number: str) -> tuple[str, str]:
    """Where the job's output and errors go, with `number` in the names where the description does not say."""
    return job.output or f"{job.name}.{number}.out", job.errors or f"{job.name}.{number}.err"


def clock(seconds: int) -> str:
    """`HH:MM:SS`, with as many hours as there are."""
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
