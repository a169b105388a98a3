"""Renders a job for PBS (OpenPBS, PBS Professional), and reads its answers. Pure. Sources: qsub(1B), qstat(1B)."""

from __future__ import annotations

from dayfly.batch.submission import qsub, rendering
from dayfly.batch.submission.description import JobSpec
from dayfly.batch.submission.rendering import clock, mebibytes, quoted, script
from dayfly.batch.submission.tasks import by_brackets

SUBMIT = ("qsub",)
MARKS = ("qsub", "pbs_rstat")
_INDEX = "^array_index^"
"""The placeholder for a task's number in the path of its output (User's Guide, "Job Arrays")."""
task = by_brackets
number = qsub.number
state = qsub.state
_ENDED = {-29: qsub.TIMED_OUT, **dict.fromkeys((-24, -25, -26, -27, -28, -31), qsub.KILLED)}
"""JOB_EXEC_KILL_WALLTIME; those of NCPUS_BURST, NCPUS_SUM, VMEM, MEM, CPUT and HPMEM (OpenPBS, src/include/job.h; the Reference
Guide of PBS Professional, "Job Exit Codes")."""


def render(job: JobSpec) -> str:
    """The script for `qsub`. PBS starts the job in the home folder, so its own directory is shared, and the script
    changes to it.
    """
    folders = ",".join((job.directory, *job.shares))
    output, errors = rendering.outputs(job, "", _INDEX if _several(job) else str(job.first))
    said = {
        "-S": "/bin/sh",
        "-N": job.name,
        "-o": output if job.output else "",
        "-e": errors if job.errors and not job.joins_errors else "",
        "-j": "oe" if job.joins_errors else "",
        "-J": f"{job.first}-{job.last}" if _several(job) else "",
        "-q": job.queue,
        "-A": job.account,
    }
    asked = {
        "select": f"1:ncpus={job.cpus}" + (f":mem={mebibytes(job.memory)}mb" if job.memory else ""),
        "walltime": clock(job.time) if job.time else "",
        "vm_image": job.image,
        "vm_boot": job.boot,
        "vm_network": job.network,
        "vm_share": f"'\"{folders}\"'" if job.shares else folders,
    }
    lines = [f"#PBS {option} {value}" for option, value in said.items() if value]
    lines += [f"#PBS -l {name}={value}" for name, value in asked.items() if value]
    return script(job, [*lines, f"cd {quoted(job.directory)} || exit"], "$PBS_ARRAY_INDEX" if _several(job) else str(job.first))


def _several(job: JobSpec) -> bool:
    """Whether it is an array for PBS: an array of one task is refused there (`-J 1-1`), and is submitted as a plain job."""
    return job.last > job.first


def outputs(job: JobSpec, number: str) -> tuple[str, str]:
    """The output files, by default with PBS's own names: a given name cannot contain the job's number."""
    output, errors = rendering.of_tasks(job, number)
    name = f"{qsub.sequence(number)}{'.{task}' if _several(job) else ''}"
    return output if job.output else f"{job.name}.o{name}", errors if job.errors else f"{job.name}.e{name}"


def ask(number: str) -> list[str]:
    """The command that prints a job's state."""
    return ["qstat", "-f", number]


def ask_status(number: str, tasks: int) -> list[str]:
    """The command that prints how a job ended, if PBS has a history (`job_history_enable`); for an array, each task."""
    del tasks
    return ["qstat", "-x", "-f", *(["-t"] if "[]" in number else []), number]


def status(answer: str, number: str, tasks: int) -> int | None:
    """The exit status of an ended job by that command's output."""
    return qsub.status(answer, number, tasks, _ENDED)


def cancel(number: str) -> list[str]:
    """The command that ends a job."""
    return ["qdel", number]
