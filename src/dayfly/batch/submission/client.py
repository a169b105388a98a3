"""Submitting a job, and asking for it later: by the batch system's own commands, or on this host."""

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
from dayfly.batch.submission.system import LOCAL, System, Systems, Words, check_command
from dayfly.errors import FieldError, FileErrors, ProgramFailed, Refused
from dayfly.job.records import Records
from dayfly.settings import Settings
from dayfly.values import dataclass

_FIRST, _LONGEST = 0.5, 10.0
"""Seconds between two questions to a batch system, which has no way to tell of a job's end: at first, and at most."""
_PATIENCE = 600.0
"""Seconds for which a batch system may not answer while somebody waits: as long as its daemon may take to be started anew."""


@dataclass(frozen=True)
class JobStatus:
    """Where a job is; of one that has ended, its status as far as it is known here (None: it is not).

    `message` is what there is to say of why it did not run.
    """

    state: State
    status: int | None = None
    message: str = ""


class Client:
    """Submits jobs to the batch systems that there are, and asks for them."""

    def __init__(self, systems: Systems) -> None:
        self._systems = systems

    def submit(self, job: JobSpec, system: System | None) -> SubmittedJob:
        """Submit a job; without a system, start it on this host.

        Raises `Refused` for what the batch system refuses, and `FileErrors` for folders that are not there.
        """
        _check_folders(job)
        store.prepare()
        if system is None:
            number = local.start(job)
            return store.remember(job, LOCAL, number, rendering.of_tasks(job, number))
        check_command(system, os.environ, self._systems)
        words = system.words
        script = os.memfd_create("job", os.MFD_CLOEXEC)
        try:
            files.write_all(script, system.render(job).encode())
            os.lseek(script, 0, os.SEEK_SET)
            answer = process.run(list(words.SUBMIT), stdin=script, cwd=job.directory).output.decode(errors="replace")
        except ProgramFailed as error:
            said = " ".join(error.tail.split())
            raise Refused(f"{system.name} took no job: {said}") from error
        finally:
            os.close(script)
        number = words.number(answer)
        return store.remember(job, system.name, number, words.outputs(job, number))

    def status(self, job: SubmittedJob, settings: Settings) -> JobStatus:
        """Where a job is now. Raises `NoAnswer` where the batch system does not say."""
        if job.system == LOCAL:
            state = local.state(job.number)
            return JobStatus(state, local.status(job.number) if state is State.ENDED else None, local.told(job.number))
        words = self._systems[job.system].words
        asked = process.run(words.ask(job.number), check=False)
        state = words.state(asked.output.decode(errors="replace"), asked.status, job.number)
        return JobStatus(state, _status(job, words, settings) if state is State.ENDED else None)

    def wait(self, job: SubmittedJob, settings: Settings) -> JobStatus:
        """Wait for a job's end. Raises `NoAnswer` when the batch system has said nothing for long."""
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
        """Remove what is kept of a job that has ended; its output stays. Raises `Refused` for one of this host that runs."""
        if job.system == LOCAL:
            local.remove(job.number)
        store.remove(job)

    def cancel(self, job: SubmittedJob) -> None:
        """End a job. Raises `ProgramFailed` where the batch system does not."""
        if job.system == LOCAL:
            local.cancel(job.number)
        else:
            process.run(self._systems[job.system].words.cancel(job.number))


def _check_folders(job: JobSpec) -> None:
    """Refuse, with `FileErrors`, a job that could not run, or write, where it says: few batch systems tell anybody of that."""
    folder = Path(job.directory)
    written = {word: folder / path for word, path in (("output", job.output), ("errors", job.errors)) if path}
    wanted = {"directory": folder, **{word: path.parent for word, path in written.items()}}
    errors = [FieldError(word, f"there is no folder {path}") for word, path in wanted.items() if not path.is_dir()]
    errors += [FieldError(word, f"{path} is a folder", "name a file") for word, path in written.items() if path.is_dir()]
    if errors:
        raise FileErrors("the job's description", errors)


def _status(job: SubmittedJob, words: Words, settings: Settings) -> int | None:
    """The status of an ended job: by the usage records of its machines, or else as far as the batch system tells it."""
    last: dict[int, int | None] = {}
    for record in Records(settings.records_folder).of_batch_job(job.system, job.number):
        task = words.task(record.batch)
        if task.job == job.number and record.end:
            last[task.number] = record.end.status
    found = first_failure(last, job.tasks)
    told = words.told(job.number, job.tasks)
    if found is not None or not told:
        return found
    return words.status(process.run(told, check=False).output.decode(errors="replace"), job.number, job.tasks)


def _pauses() -> Iterator[float]:
    pause = _FIRST
    while True:
        yield pause
        pause = min(pause * 1.5, _LONGEST)
