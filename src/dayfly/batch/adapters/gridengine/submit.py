"""Renders a job for Grid Engine, and reads its answers. Pure. Source: submit(1)."""

from __future__ import annotations

import re

from dayfly.batch.submission import rendering
from dayfly.batch.submission.description import JobSpec
from dayfly.batch.submission.rendering import clock, mebibytes, of_tasks, one_share, script
from dayfly.batch.submission.states import NoAnswer, State, furthest, no_status_query, status_unknown
from dayfly.batch.submission.tasks import by_array, number_in

SUBMIT = ("qsub", "-terse")
MARKS = ("qsub", "qconf")
PARALLEL_ENVIRONMENT = "smp"
"""The usual name of the parallel environment whose slots are all on one host."""
outputs = of_tasks
task = by_array
ask_status, status = no_status_query, status_unknown
"""The end of a job is in its usage records: qacct reads a file that submit hosts need not see."""
_NUMBER = re.compile(r"([0-9]{1,12})(\.[0-9:-]+)?\n?")


def render(job: JobSpec) -> str:
    """The script for `qsub`. Raises `Refused` for options that Grid Engine does not have."""
    output, errors = rendering.outputs(job, "$JOB_ID", "$TASK_ID")
    asked = {
        "vm_image": job.image,
        "vm_boot": job.boot,
        "vm_network": job.network,
        "vm_share": one_share(job, "Grid Engine"),
        "m_mem_free": f"{-(-mebibytes(job.memory) // job.cpus)}M" if job.memory else "",
        "h_rt": clock(job.time) if job.time else "",
    }
    said = {
        "-S": "/bin/sh",
        "-N": job.name,
        "-wd": job.directory,
        "-o": output,
        "-e": "" if job.joins_errors else errors,
        "-j": "y" if job.joins_errors else "",
        "-pe": f"{PARALLEL_ENVIRONMENT} {job.cpus}" if job.cpus > 1 else "",
        "-t": f"{job.first}-{job.last}" if job.is_array else "",
        "-q": job.queue,
        "-A": job.account,
        **{f"-l {name}": f"={value}" for name, value in asked.items() if value},
    }
    lines = [f"#$ {option}{'' if option.startswith('-l') else ' '}{value}" for option, value in said.items() if value]
    return script(job, lines, "$SGE_TASK_ID")


def number(answer: str) -> str:
    """The job's number in the output of `qsub -terse`. Raises `Refused`."""
    return number_in(answer, _NUMBER, "qsub")


def ask(number: str) -> list[str]:
    """The command that lists the states of all jobs of the caller; there is no short one for a single job."""
    del number
    return ["qstat", "-g", "d"]


def state(answer: str, status: int, number: str) -> State:
    """The job's state by that command's output. A job that is not listed has ended. Raises `NoAnswer` if the command failed."""
    if status != 0:
        raise NoAnswer("qstat")
    rows = [line.split() for line in answer.splitlines()]
    return furthest([_state(row[4]) for row in rows if len(row) > 4 and row[0] == number])


def _state(letters: str) -> State:
    """A state as qstat(1) writes it, like `qw`, `hqw`, `r`, `Rr`, `s`, `Eqw`."""
    if "E" in letters:
        return State.FAULTY
    if set(letters) & set("sST"):
        return State.SUSPENDED
    if "w" in letters:
        return State.HELD if "h" in letters else State.WAITING
    return State.RUNNING


def cancel(number: str) -> list[str]:
    """The command that ends a job."""
    return ["qdel", number]
