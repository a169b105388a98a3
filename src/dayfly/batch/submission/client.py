"""Submits jobs and queries them later: by the batch system's own commands, or on this host."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from dayfly import files, process
from dayfly.batch.submission import local, rendering, store
from dayfly.batch.submission.description import JobSpec
from dayfly.batch.submission.states import NoAnswer, State, first_failure
from dayfly.batch.submission.store import SubmittedJob
from dayfly.batch.submission.system import LOCAL, Adapter, System, Systems, check_command
from dayfly.errors import FieldError, FileErrors, ProgramFailed, Refused
from dayfly.job.records import Records
from dayfly.settings import Settings
from dayfly.values import dataclass

_FIRST, _LONGEST = 0.5, 10.0
"""Seconds between two queries to a batch system, which cannot notify of a job's end: at first, and at most."""
_PATIENCE = 600.0
"""Seconds that a batch system may fail to answer during a wait: the time that a restart of its daemon may take."""


@dataclass(frozen=True)
class JobStatus:
    """A job's state; for an ended job its exit status, if it is known here (None: unknown).

    `message` is why it did not run (may be empty).
    """

    state: State
    status: int | None = None
    message: str = ""


class Client:
    """Submits jobs to batch systems, and queries them."""

    def __init__(self, systems: Systems) -> None:
        self._systems = systems

    def submit(self, job: JobSpec, system: System | None) -> SubmittedJob:
        """Submit a job; without a system, start it on this host.

        Raises `Refused` if the batch system refuses it, and `FileErrors` for missing folders.
        """
        _check_folders(job)
        store.prepare()
        if system is None:
            number = local.start(job)
            return store.remember(job, LOCAL, number, rendering.of_tasks(job, number))
        check_command(system, os.environ, self._systems)
        adapter = system.adapter
        script = os.memfd_create("job", os.MFD_CLOEXEC)
        try:
            files.write_all(script, system.render(job).encode())
            os.lseek(script, 0, os.SEEK_SET)
            answer = process.run(list(adapter.SUBMIT), stdin=script, cwd=job.directory).output.decode(errors="replace")
        except ProgramFailed as error:
            said = " ".join(error.tail.split())
            raise Refused(f"{system.name} refused the job: {said}") from error
        finally:
            os.close(script)
        number = adapter.number(answer)
        return store.remember(job, system.name, number, adapter.outputs(job, number))

    def status(self, job: SubmittedJob, settings: Settings) -> JobStatus:
        """A job's state. Raises `NoAnswer` if the batch system does not answer."""
        if job.system == LOCAL:
            state = local.state(job.number)
            return JobStatus(state, local.status(job.number) if state is State.ENDED else None, local.message(job.number))
        adapter = self._systems[job.system].adapter
        asked = process.run(adapter.ask(job.number), check=False)
        state = adapter.state(asked.output.decode(errors="replace"), asked.status, job.number)
        return JobStatus(state, _status(job, adapter, settings) if state is State.ENDED else None)

    def wait(self, job: SubmittedJob, settings: Settings) -> JobStatus:
        """Wait for a job's end. Raises `NoAnswer` if the batch system does not answer for a long time."""
        if job.system == LOCAL:
            local.wait(job.number)
            return self.status(job, settings)
        heard = time.monotonic()
        for pause in _pauses():
            try:
                found = self.status(job, settings)
            except NoAnswer:
                if time.monotonic() - heard > _PATIENCE:
                    raise
            else:
                heard = time.monotonic()
                if found.state in (State.ENDED, State.FAULTY):
                    return found
            time.sleep(pause)
        raise AssertionError("pauses have no end")

    def forget(self, job: SubmittedJob) -> None:
        """Remove the record of a job that has ended; its output stays. Raises `Refused` for a job of this host that runs."""
        if job.system == LOCAL:
            local.remove(job.number)
        store.remove(job)

    def cancel(self, job: SubmittedJob) -> None:
        """Cancel a job. Raises `ProgramFailed` if the batch system fails to."""
        if job.system == LOCAL:
            local.cancel(job.number)
        else:
            process.run(self._systems[job.system].adapter.cancel(job.number))


def _check_folders(job: JobSpec) -> None:
    """Raise `FileErrors` for a job whose folders do not exist: few batch systems report that."""
    folder = Path(job.directory)
    written = {word: folder / path for word, path in (("output", job.output), ("errors", job.errors)) if path}
    wanted = {"directory": folder, **{word: path.parent for word, path in written.items()}}
    errors = [FieldError(word, f"there is no folder {path}") for word, path in wanted.items() if not path.is_dir()]
    errors += [FieldError(word, f"{path} is a folder", "give a file") for word, path in written.items() if path.is_dir()]
    if errors:
        raise FileErrors("the job's description", errors)


def _status(job: SubmittedJob, adapter: Adapter, settings: Settings) -> int | None:
    """The exit status of an ended job: by the usage records of its machines, or else by the batch system."""
    last: dict[int, int | None] = {}
    for record in Records(settings.records_folder).of_batch_job(job.system, job.number):
        task = adapter.task(record.batch)
        if task.job == job.number and record.end:
            last[task.number] = record.end.status
    found = first_failure(last, job.tasks)
    command = adapter.ask_status(job.number, job.tasks)
    if found is not None or not command:
        return found
    return adapter.status(process.run(command, check=False).output.decode(errors="replace"), job.number, job.tasks)


def _pauses() -> Iterator[float]:
    pause = _FIRST
    while True:
        yield pause
        pause = min(pause * 1.5, _LONGEST)
