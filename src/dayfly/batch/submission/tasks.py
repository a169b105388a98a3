"""The numbers of jobs and tasks in each batch system: in its answers, and in usage records. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from dayfly.errors import Refused

_BRACKETS = re.compile(r"\[[0-9]*\]")


class Task(NamedTuple):
    """A task of a job, with the job's number at submission; `number` is 0 for a job without tasks."""

    job: str
    number: int


def by_array(batch: Mapping[str, str]) -> Task:
    """Slurm and Grid Engine: a task's record has the number of its array."""
    return Task(batch.get("array_job") or batch.get("job", ""), _index(batch.get("array_task", "")))


def by_brackets(batch: Mapping[str, str]) -> Task:
    """PBS and Torque: `42[3].head` is a task of `42[].head`."""
    return Task(without_index(batch.get("job", "")), _index(batch.get("array_task", "")))


def by_process(batch: Mapping[str, str]) -> Task:
    """HTCondor: `7.3` is a process of the cluster `7`."""
    cluster, _, process = batch.get("job", "").partition(".")
    return Task(cluster, _index(process))


def number_in(answer: str, pattern: re.Pattern[str], program: str) -> str:
    """A job's number, the pattern's first group, in the output of the submit command. Raises `Refused`."""
    match = pattern.fullmatch(answer)
    if match is None:
        raise Refused(f"{program} did not print a job's number, but {answer[:200]!r}")
    return str(match[1])


def without_index(job: str) -> str:
    """The id of an array, from that of a task or of the array; the id of any other job unchanged."""
    return _BRACKETS.sub("[]", job, count=1)


def _index(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
