"""Renders a job for Slurm, and reads its answers. Pure. Sources: sbatch(1), scancel(1), sacct(1), squeue(1)."""

from __future__ import annotations

import re

from dayfly.batch.submission import rendering
from dayfly.batch.submission.description import JobSpec
from dayfly.batch.submission.rendering import mebibytes, of_tasks, script
from dayfly.batch.submission.states import NoAnswer, State, furthest, no_status_query, status_unknown
from dayfly.batch.submission.tasks import by_array, number_in

SUBMIT = ("sbatch", "--parsable")
MARKS = ("sbatch",)
outputs = of_tasks
task = by_array
ask_status, status = no_status_query, status_unknown
"""The end of a job is in its usage records: sacct needs accounting, which not every site has."""
_NUMBER = re.compile(r"([0-9]{1,12})(;[^\n]*)?\n?")


def render(job: JobSpec) -> str:
    """The script for `sbatch`."""
    output, errors = rendering.outputs(job, "%A" if job.is_array else "%j", "%a")
    said = {
        "job-name": job.name,
        "chdir": job.directory,
        "output": output,
        "error": errors,
        "vm-image": job.image,
        "vm-boot": job.boot,
        "vm-network": job.network,
        "vm-share": ",".join(job.shares),
        "cpus-per-task": str(job.cpus),
        "mem": f"{mebibytes(job.memory)}M" if job.memory else "",
        "time": str(-(-job.time // 60)) if job.time else "",
        "array": f"{job.first}-{job.last}" if job.is_array else "",
        "partition": job.queue,
        "account": job.account,
    }
    return script(job, [f"#SBATCH --{name}={value}" for name, value in said.items() if value], "$SLURM_ARRAY_TASK_ID")


def number(answer: str) -> str:
    """The job's number in the output of `sbatch`. Raises `Refused`."""
    return number_in(answer, _NUMBER, "sbatch")


def ask(number: str) -> list[str]:
    """The command that lists the states of all jobs of the caller: for a single job that Slurm has forgotten, it fails as for any
    other error.
    """
    del number
    return ["squeue", "--me", "--noheader", "--array", "--states=all", "--format=%F %T %r"]


def state(answer: str, status: int, number: str) -> State:
    """The job's state by that command's output. A job that is not listed has ended. Raises `NoAnswer` if the command failed."""
    if status != 0:
        raise NoAnswer("squeue")
    rows = [line.split(maxsplit=2) for line in answer.splitlines()]
    return furthest([_state(row[1], row[2]) for row in rows if len(row) == 3 and row[0] == number])


def _state(word: str, reason: str) -> State:
    if word in ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD"):
        return State.HELD if reason.startswith("JobHeld") else State.WAITING
    if word in ("RUNNING", "COMPLETING", "SIGNALING", "STAGE_OUT", "RESIZING"):
        return State.RUNNING
    return State.SUSPENDED if word in ("SUSPENDED", "STOPPED") else State.ENDED


def cancel(number: str) -> list[str]:
    """The command that ends a job."""
    return ["scancel", number]
