"""A job's description in Slurm's words, and Slurm's answers. Pure. Sources: sbatch(1), scancel(1), sacct(1), squeue(1)."""

from __future__ import annotations

import re

from dayfly.batch.submit.description import SubmittedJob
from dayfly.batch.submit.rendering import outputs, script
from dayfly.batch.submit.states import State, furthest
from dayfly.errors import Refused

SUBMIT = ("sbatch", "--parsable")
_MIB = 1024**2
_NUMBER = re.compile(r"([0-9]{1,12})(;[^\n]*)?\n?")


def render(job: SubmittedJob) -> str:
    """The script for `sbatch`."""
    output, errors = outputs(job, "%A.%a" if job.is_array else "%j")
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
        "mem": f"{-(-job.memory // _MIB)}M" if job.memory else "",
        "time": str(-(-job.time // 60)) if job.time else "",
        "array": f"{job.first}-{job.last}" if job.is_array else "",
        "partition": job.queue,
        "account": job.account,
    }
    return script(job, [f"#SBATCH --{name}={value}" for name, value in said.items() if value], "SLURM_ARRAY_TASK_ID")


def number(answer: str) -> str:
    """The job's number in what `sbatch` says. Raises `Refused`."""
    match = _NUMBER.fullmatch(answer)
    if match is None:
        raise Refused(f"sbatch answered {answer[:200]!r}, and not with a job's number")
    return match[1]


def ask(job: str) -> list[str]:
    """The command that says where a job is."""
    return ["squeue", "--noheader", "--array", "--states=all", f"--jobs={job}", "--format=%T %r"]


def state(answer: str, status: int, job: str) -> State:
    """Where the job is, by what that command says. One that Slurm has forgotten has ended (`status` is not 0 then)."""
    del job  # nothing is said of others
    lines = [line.partition(" ") for line in answer.splitlines() if line.strip()] if status == 0 else []
    return furthest([_state(word, reason.strip()) for word, _, reason in lines])


def _state(word: str, reason: str) -> State:
    if word in ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD"):
        return State.HELD if reason.startswith("JobHeld") else State.WAITING
    if word in ("RUNNING", "COMPLETING", "SIGNALING", "STAGE_OUT", "RESIZING"):
        return State.RUNNING
    return State.SUSPENDED if word in ("SUSPENDED", "STOPPED") else State.ENDED


def cancel(job: str) -> list[str]:
    """The command that ends a job."""
    return ["scancel", job]
