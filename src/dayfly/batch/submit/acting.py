"""Submitting a job, and asking for it later: by the batch system's own commands, or on this host."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from dayfly import files, process
from dayfly.batch.submit import kept, local
from dayfly.batch.submit.description import SubmittedJob
from dayfly.batch.submit.kept import Submitted
from dayfly.batch.submit.states import State
from dayfly.batch.submit.systems import LOCAL, SYSTEMS, System
from dayfly.errors import ProgramFailed, Refused
from dayfly.job.usage import Records
from dayfly.settings import Settings
from dayfly.values import dataclass

_FIRST, _LONGEST = 0.5, 10.0
"""Seconds between two questions to a batch system, which has no way to tell of a job's end: at first, and at most."""


@dataclass(frozen=True)
class Standing:
    """Where a job is; of one that has ended, its status as far as it is known here (None: it is not)."""

    state: State
    status: int | None = None


def submit(job: SubmittedJob, system: System | None) -> Submitted:
    """Submit a job; without a system, start it on this host. Raises `Refused` for what the batch system refuses."""
    if not os.path.isdir(job.directory):  # noqa: PTH112
        raise Refused(f"there is no folder {job.directory}", "directory in the description says where the job runs")
    if system is None:
        return kept.remember(job, LOCAL, local.start(job))
    script = os.memfd_create("job", os.MFD_CLOEXEC)
    try:
        files.write_all(script, system.render(job).encode())
        os.lseek(script, 0, os.SEEK_SET)
        answer = process.run(list(system.submit), stdin=script, cwd=job.directory).output.decode(errors="replace")
    except ProgramFailed as error:
        said = " ".join(error.tail.split())
        raise Refused(f"{system.name} took no job: {said}") from error
    finally:
        os.close(script)
    return kept.remember(job, system.name, system.number(answer))


def standing(job: Submitted, settings: Settings) -> Standing:
    """Where a job is now."""
    if job.system == LOCAL:
        state = local.state(job.number)
        return Standing(state, local.status(job.number) if state is State.ENDED else None)
    system = SYSTEMS[job.system]
    asked = process.run(system.ask(job.number), check=False)
    state = system.state(asked.output.decode(errors="replace"), asked.status, job.number)
    return Standing(state, _recorded(job, settings) if state is State.ENDED else None)


def _recorded(job: Submitted, settings: Settings) -> int | None:
    """The status of an ended job by the usage records of its machines: that of the first task that failed, or 0."""
    last: dict[str, int] = {}
    for record in Records(settings.records_folder).all():
        said = record.batch
        if said.get("system") == job.system and job.number in (said.get("job"), said.get("array_job")) and record.end:
            last[said.get("array_task", "")] = record.end.status
    if len(last) < max(job.last - job.first + 1 if job.last else 1, 1):
        return None
    return next((status for _, status in sorted(last.items()) if status), 0)


def wait(job: Submitted, settings: Settings) -> Standing:
    """Wait for a job's end."""
    if job.system == LOCAL:
        local.wait(job.number)
        return standing(job, settings)
    for pause in _pauses():
        found = standing(job, settings)
        if found.state in (State.ENDED, State.FAULTY):
            return found
        time.sleep(pause)
    raise AssertionError("pauses have no end")


def _pauses() -> Iterator[float]:
    pause = _FIRST
    while True:
        yield pause
        pause = min(pause * 1.5, _LONGEST)


def cancel(job: Submitted) -> None:
    """End a job. Raises `ProgramFailed` where the batch system does not."""
    if job.system == LOCAL:
        local.cancel(job.number)
    else:
        process.run(SYSTEMS[job.system].cancel(job.number))
