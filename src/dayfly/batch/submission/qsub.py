"""The common parts of PBS and Torque, which have the same origin: the output of `qsub` and `qstat -f`. Pure.

Sources: qsub(1B), qstat(1B), pbs_job_attributes(7B); error numbers are from pbs_error.h; a command's exit status is their low 8
bits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from dayfly.batch.submission.states import NoAnswer, State, first_failure, furthest
from dayfly.batch.submission.tasks import number_in, without_index

_NUMBER = re.compile(r"([0-9]{1,12}(?:\[\])?(?:\.[A-Za-z0-9_-]{1,64}){0,8})\n?")
_JOB = re.compile(r"Job Id: *(\S{1,600})\s*")
_ATTRIBUTE = re.compile(r"    ([A-Za-z_]{1,64}) = (.*)")
_INDEX = re.compile(r"[0-9]+\[([0-9]{1,9})\]")
_UNKNOWN, _FINISHED = 15001 & 0xFF, 15139 & 0xFF
"""PBSE_UNKJOBID: there is no such job (any more). PBSE_HISTJOBID: it is history, which needs -x."""
_STATES = {
    State.WAITING: "QTWM",
    State.HELD: "H",
    State.RUNNING: "RBE",
    State.SUSPENDED: "SU",
    State.ENDED: "FXC",
}
_BY_LETTER = {letter: state for state, letters in _STATES.items() for letter in letters}
_BY_SIGNAL = 256
"""PBS reports death by a signal as 256 plus the signal's number (User's Guide, "Exit status")."""
TIMED_OUT, KILLED = 124, 137
"""The exit statuses of jobs that pbs_mom ended: over their time as with `dayfly run --timeout`, over another limit by SIGKILL."""


def number(answer: str) -> str:
    """The job's id in the output of `qsub`: `42.head`, or `42[].head` for an array. Raises `Refused`."""
    return number_in(answer, _NUMBER, "qsub")


def sequence(number: str) -> str:
    """The number alone, as in the names of output files."""
    return number.partition(".")[0].partition("[")[0]


def state(answer: str, status: int, number: str) -> State:
    """The job's state by the output and exit status of `qstat -f`. Raises `NoAnswer` if that failed."""
    found = _jobs(answer, number)
    tasks = [attributes for task, attributes in found.items() if task] or list(found.values())
    if tasks:
        return furthest([_BY_LETTER.get(attributes.get("job_state", "")[:1], State.RUNNING) for attributes in tasks])
    if status not in (0, _UNKNOWN, _FINISHED):
        raise NoAnswer("qstat")
    return State.ENDED


def status(answer: str, number: str, tasks: int, ended: Mapping[int, int]) -> int | None:
    """The exit status of an ended job, if `qstat -f` still has all its tasks: that of the first one that failed.

    `ended` has pbs_mom's own statuses, which are negative, of jobs that it ended over a limit.
    """
    found = _jobs(answer, number)
    if "[]" in number:
        found.pop(0, None)  # the array's own
    said = {task: _status(attributes.get("exit_status", ""), ended) for task, attributes in found.items()}
    return first_failure(said, tasks)


def _status(text: str, ended: Mapping[int, int]) -> int | None:
    """A status as in a shell; None for other statuses of pbs_mom's own: the job did not run."""
    if not re.fullmatch(r"-?[0-9]{1,4}", text):
        return None
    if int(text) < 0:
        return ended.get(int(text))
    return int(text) if int(text) < _BY_SIGNAL else 128 + int(text) % _BY_SIGNAL


def _jobs(answer: str, number: str) -> dict[int, Mapping[str, str]]:
    """The job's attributes by name in lower case; for an array by task (0: the array itself).

    Of attributes with the same name the first counts: the job's variables come after the others, and can have several lines.
    """
    found: dict[int, dict[str, str]] = {}
    attributes: dict[str, str] = {}
    for line in answer.split("\n"):
        if job := _JOB.fullmatch(line):
            attributes = {}
            if without_index(job[1]) == number:
                index = _INDEX.match(job[1])
                found.setdefault(int(index[1]) if index else 0, attributes)
        elif attribute := _ATTRIBUTE.fullmatch(line):
            attributes.setdefault(attribute[1].lower(), attribute[2].strip())
    return dict(found)
