"""Renders a job for HTCondor, and reads its answers. Pure.

Sources: condor_submit(1), condor_q(1), condor_history(1); of HTCondor's manual "Submitting a Job" and "Job ClassAd Attributes".
"""

from __future__ import annotations

import re

from dayfly.batch.submission import rendering
from dayfly.batch.submission.description import JobSpec
from dayfly.batch.submission.rendering import commands, mebibytes, of_tasks, only_in_a_machine
from dayfly.batch.submission.states import NoAnswer, State, first_failure, furthest
from dayfly.batch.submission.tasks import by_process, number_in

SUBMIT = ("condor_submit", "-terse", "-")
MARKS = ("condor_submit",)
outputs = of_tasks
task = by_process
_NUMBER = re.compile(r"([0-9]{1,12})\.[0-9]{1,9} - \1\.[0-9]{1,9}\n?")
_NEWLINE = "DAYFLY_NEWLINE"
_STATES = {
    "1": State.WAITING,
    "2": State.RUNNING,
    "3": State.ENDED,
    "4": State.ENDED,
    "6": State.RUNNING,
    "7": State.SUSPENDED,
}
"""JobStatus, except for 5 (held)."""
_TIMED_OUT = 124
"""The exit status of a job that was removed for its `time`, as with `dayfly run --timeout`."""
_OVER_TIME = re.compile(r"The job attribute PeriodicRemove expression .*JobCurrentStartDate.* evaluated to TRUE")
"""The reason for a job that condor_schedd removed by the expression of `render`."""
_BY_ITS_USER = ("1", "15")
"""HoldReasonCode of jobs that a user holds, or that were submitted on hold; all others are faults."""


def render(job: JobSpec) -> str:
    """The submit description. Files are not transferred: the job runs in its own directory, as under other batch systems."""
    index = "$INT(DayflyTask)"
    output, errors = rendering.outputs(job, "$(Cluster)", index)
    together = ["exec 2>&1"] if job.joins_errors else []  # the starter would open a file that is given twice two times
    line = _one_line([*only_in_a_machine(job), *together, *commands(job, "$1")])
    said = {
        "universe": "vanilla",
        "batch_name": job.name,
        "initialdir": job.directory,
        "should_transfer_files": "NO",
        "DayflyTask": f"$(Process) + {job.first}" if job.is_array else "",
        "executable": "/bin/sh",
        "arguments": _arguments(line, f" {job.name} {index}" if job.is_array else ""),
        "output": output,
        "error": errors,
        "+VMImage": f'"{job.image}"',
        "+VMBoot": f'"{job.boot}"' if job.boot else "",
        "+VMNetwork": f'"{job.network}"' if job.network else "",
        "+VMShare": f'"{",".join(job.shares)}"' if job.shares else "",
        "request_cpus": str(job.cpus),
        "request_memory": str(mebibytes(job.memory)) if job.memory else "",
        "requirements": f'TARGET.DayflyQueue == "{job.queue}"' if job.queue else "",
        "accounting_group": job.account,
        "periodic_remove": f"JobStatus == 2 && time() - JobCurrentStartDate > {job.time}" if job.time else "",
    }
    lines = [f"{name} = {value}" for name, value in said.items() if value]
    return "\n".join([*lines, f"queue {job.last - job.first + 1}", ""])


def _one_line(lines: list[str]) -> str:
    """The same shell commands in one line, since a value in a submit description cannot have several lines."""
    text = "; ".join(lines)
    # Continuation lines of a word begin with '' (rendering.quoted), all of them within quotes.
    line = text.replace("\n''", f"'\"${_NEWLINE}\"'")
    defined = f"{_NEWLINE}=$(printf '\\n.'); {_NEWLINE}=${{{_NEWLINE}%.}}; "
    return (defined if line != text else "") + line


def _arguments(line: str, rest: str) -> str:
    """`-c LINE` and the rest in the new syntax of `arguments`, with everything escaped in the line that condor_submit (`$(NAME)`,
    `$ENV(NAME)`) or condor_schedd (`$$(NAME)`) would expand.
    """
    plain = re.sub(r"\$(?=\$)", "$''", line)  # two of them occur only within quotes
    word = plain.replace("'", "''").replace('"', '""').replace("$", "$(DOLLAR)")
    return f"\"-c '{word}'{rest}\""


def number(answer: str) -> str:
    """The cluster's number in the output of `condor_submit -terse`: its first and its last job. Raises `Refused`."""
    return number_in(answer, _NUMBER, "condor_submit")


def ask(number: str) -> list[str]:
    """The command that prints a job's state."""
    return ["condor_q", number, "-af", "ProcId", "JobStatus", "HoldReasonCode"]


def state(answer: str, status: int, number: str) -> State:
    """The job's state by that command's output. A job that is not listed has ended. Raises `NoAnswer` if the command failed."""
    del number  # only this job is listed
    if status != 0:
        raise NoAnswer("condor_q")
    rows = [line.split() for line in answer.splitlines()]
    return furthest([_state(row[1], row[2]) for row in rows if len(row) == 3])


def _state(status: str, reason: str) -> State:
    if status == "5":
        return State.HELD if reason in _BY_ITS_USER else State.FAULTY
    return _STATES.get(status, State.RUNNING)


_STATUS_ATTRIBUTES = ("ExitBySignal", "ExitSignal", "ExitCode", "RemoveReason")


def ask_status(number: str, tasks: int) -> list[str]:
    """The command that prints how a job ended, as long as HTCondor has its history."""
    return ["condor_history", number, "-limit", str(tasks), "-af", "ProcId", *_STATUS_ATTRIBUTES]


def status(answer: str, number: str, tasks: int) -> int | None:
    """The exit status by that command's output: that of the first task that failed. A removed job has none, unless it was removed
    for its time.
    """
    del number
    rows = [line.split(maxsplit=4) for line in answer.splitlines()]
    return first_failure({int(row[0]): _status(*row[1:]) for row in rows if len(row) == 5 and _is_number(row[0])}, tasks)


def _status(by_signal: str, signal: str, code: str, removed: str) -> int | None:
    if _OVER_TIME.match(removed):
        return _TIMED_OUT
    if by_signal == "true":
        return 128 + int(signal) if _is_number(signal) else None
    return int(code) if _is_number(code) else None


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,9}", text) is not None


def cancel(number: str) -> list[str]:
    """The command that ends a job."""
    return ["condor_rm", number]
