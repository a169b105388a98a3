"""Renders a job for Torque, and reads its answers. Pure. Sources: qsub(1B), qstat(1B), Torque's Administrator Guide."""

from __future__ import annotations

from dayfly.batch.submission import qsub
from dayfly.batch.submission.description import JobSpec
from dayfly.batch.submission.rendering import clock, mebibytes, one_share, only_in_a_machine, script
from dayfly.batch.submission.tasks import by_brackets

SUBMIT = ("qsub",)
MARKS = ("qsub", "qchkpt")
task = by_brackets
number = qsub.number
state = qsub.state
_ENDED = {-11: qsub.TIMED_OUT, -10: qsub.KILLED, -12: qsub.KILLED}
"""JOB_EXEC_OVERLIMIT_WT, that of MEM and of CPUT (Torque's Administrator Guide, "Job Exit Status")."""


def render(job: JobSpec) -> str:
    """The script for `qsub`, with the requests for a machine as variables. Raises `Refused` for options that Torque does not
    have.
    """
    requests = {
        "DAYFLY_IMAGE": job.image,
        "DAYFLY_BOOT": job.boot,
        "DAYFLY_NETWORK": job.network,
        "DAYFLY_SHARE": one_share(job, "Torque"),
    }
    tasks = str(job.first) if job.first == job.last else f"{job.first}-{job.last}"
    said = {
        "-S": "/bin/sh",
        "-N": job.name,
        "-d": job.directory,
        "-o": job.output,
        "-e": "" if job.joins_errors else job.errors,
        "-j": "oe" if job.joins_errors else "",
        "-t": tasks if job.is_array else "",
        "-q": job.queue,
        "-A": job.account,
        "-v": ",".join(f"{name}={value}" for name, value in requests.items() if value),
        "-l nodes": f"1:ppn={job.cpus}",
        "-l mem": f"{mebibytes(job.memory)}mb" if job.memory else "",
        "-l walltime": clock(job.time) if job.time else "",
    }
    lines = [f"#PBS {option}{'=' if ' ' in option else ' '}{value}" for option, value in said.items() if value]
    return script(job, [*lines, *only_in_a_machine(job)], "$PBS_ARRAYID")


def outputs(job: JobSpec, number: str) -> tuple[str, str]:
    """The output files with Torque's own names; Torque appends a task's number to every name, also to a given one (job_clone in
    src/server/job_func.c).
    """
    index = "-{task}" if job.is_array else ""
    sequence = qsub.sequence(number)
    return f"{job.output or f'{job.name}.o{sequence}'}{index}", f"{job.errors or f'{job.name}.e{sequence}'}{index}"


def ask(number: str) -> list[str]:
    """The command that prints a job's state; for an array, that of each task."""
    return ["qstat", "-f", *(["-t"] if "[]" in number else []), number]


def ask_status(number: str, tasks: int) -> list[str]:
    """The command that prints how a job ended, as long as Torque has it (`keep_completed`)."""
    del tasks
    return ask(number)


def status(answer: str, number: str, tasks: int) -> int | None:
    """The exit status of an ended job by that command's output."""
    return qsub.status(answer, number, tasks, _ENDED)


def cancel(number: str) -> list[str]:
    """The command that ends a job."""
    return ["qdel", number]
