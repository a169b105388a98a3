"""Jobs on this host without a batch system: each has a process that outlives the command, and runs its tasks one after the other.

XDG_STATE_HOME/dayfly/local/NUMBER/job.json    the job
…/owner                                        locked by the process that runs it; contains its pid
…/status                                       the exit status: that of the first task that failed, or 0
…/message                                      the output of that process: why a task could not be started
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import signal
import sys
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import IO

from dayfly import disknames, files, inherited, process
from dayfly.batch.submission.description import JobSpec
from dayfly.batch.submission.rendering import TASK, outputs
from dayfly.batch.submission.states import State
from dayfly.errors import DayflyError, NotFound, Refused, in_words
from dayfly.image.fields import decode
from dayfly.notices import Notify
from dayfly.process import Lifetime
from dayfly.settings import xdg

_LIMIT = 64 * 1024 * 1024
_STATUS_LIMIT = 64
_LINE_LIMIT = 4096


def start(job: JobSpec) -> str:
    """Start a job's process without waiting for it, and return the job's number."""
    number = secrets.token_hex(4)
    folder = _folder(number)
    folder.mkdir(parents=True)
    files.write(folder / disknames.LOCAL_JOB, json.dumps(asdict(job)).encode(), 0o600)
    message = os.open(folder / disknames.LOCAL_MESSAGE, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "dayfly", "local-job", number, str(writer)]
    environment = inherited.environment_for_dayfly()
    try:
        child = process.spawn(command, stderr=message, keep=[writer], env=environment, lifetime=Lifetime.DETACHED)
    except BaseException:
        os.close(reader)
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        os.close(writer)
        os.close(message)
    ready = os.read(reader, 1)
    os.close(reader)
    if not ready:
        status, _ = child.wait()
        shutil.rmtree(folder, ignore_errors=True)
        raise DayflyError(f"the job's process failed to start, with status {status}")
    os.close(child.pidfd)  # nothing waits for it
    return number


def run(number: str, ready: int, notify: Notify) -> int:
    """The job's process: run its tasks, and write the exit status. `notify` receives why a task could not be started."""
    folder = _folder(number)
    fields = decode(files.read(folder / disknames.LOCAL_JOB, _LIMIT), disknames.LOCAL_JOB).values
    job = JobSpec(**{**fields, "command": tuple(fields["command"]), "shares": tuple(fields["shares"])})  # type: ignore[arg-type]
    with (folder / disknames.LOCAL_OWNER).open("w") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        owner.write(f"{os.getpid()}\n")
        owner.flush()
        os.write(ready, b".")
        os.close(ready)
        statuses = _Tasks(job, number, notify).run()
        status = next((status for status in statuses if status), 0)
        files.write(folder / disknames.LOCAL_STATUS, f"{status}\n".encode(), 0o600)
    return 0


class _Tasks:
    """Runs tasks one after the other, until the job is cancelled."""

    def __init__(self, job: JobSpec, number: str, notify: Notify) -> None:
        self._job = job
        self._number = number
        self._notify = notify
        self._child: process.Child | None = None
        self._ended = 0
        for wanted in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(wanted, self._end)

    def _end(self, number: int, _: object) -> None:
        self._ended = number
        if self._child is not None:
            self._child.kill(number)

    def run(self) -> list[int]:
        tasks = range(self._job.first, self._job.last + 1) if self._job.is_array else [0]
        statuses: list[int] = []
        for task in tasks:
            if self._ended:
                return [*statuses, 128 + self._ended]
            statuses.append(self._task(task))
        return statuses

    def _task(self, task: int) -> int:
        try:
            return self._ran(task)
        except (DayflyError, OSError) as error:
            self._notify(in_words(error))
            return DayflyError.exit_status

    def _ran(self, task: int) -> int:
        job = self._job
        output, errors = (Path(job.directory) / path for path in outputs(job, self._number, str(task)))
        task_variables = {TASK.encode(): str(task).encode()} if job.is_array else {}
        variables = {**inherited.environment_for_dayfly(), **task_variables}
        with output.open("wb") as out, nullcontext(out) if job.joins_errors else errors.open("wb") as err:
            self._child = process.spawn(words(job), stdout=out.fileno(), stderr=err.fileno(), env=variables, cwd=job.directory)
            if self._ended:
                self._child.kill(self._ended)
            status, _ = self._child.wait()
            self._child = None
        return status if status >= 0 else 128 - status


def words(job: JobSpec) -> list[str]:
    """The job as a command line of `dayfly run`."""
    options = [f"--cpus={job.cpus}", f"--name={job.name}", *(f"--share={share}" for share in job.shares)]
    options += [f"--memory={job.memory // 1024}K"] if job.memory else []
    options += [f"--timeout={job.time}s"] if job.time else []
    options += [f"--network={job.network}"] if job.network else []
    options += [f"--boot={job.boot}"] if job.boot else []
    options += [f"--env={name}={value}" for name, value in job.environment.items()]
    return [sys.executable, "-m", "dayfly", "run", *options, job.image, "--", *job.command]


def state(number: str) -> State:
    """Whether the job's process runs."""
    with _owner(number) as owner:
        try:
            fcntl.flock(owner, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return State.RUNNING
    return State.ENDED


def wait(number: str) -> None:
    """Wait until the job's process has ended: its lock is released."""
    with _owner(number) as owner:
        fcntl.flock(owner, fcntl.LOCK_SH)


def status(number: str) -> int:
    """The exit status of an ended job; 137 if its process was killed before it could write one."""
    try:
        return int(files.read(_folder(number) / disknames.LOCAL_STATUS, _STATUS_LIMIT))
    except FileNotFoundError:
        return 137


def message(number: str) -> str:
    """The first message of the job's process about a task that could not be started; empty: none."""
    try:
        with (_folder(number) / disknames.LOCAL_MESSAGE).open("rb") as file:
            return file.readline(_LINE_LIMIT).decode(errors="replace").strip().removeprefix("dayfly: ")
    except FileNotFoundError:
        return ""


def cancel(number: str) -> None:
    """Signal the job to end."""
    with _owner(number) as owner:
        if state(number) is State.RUNNING:
            os.kill(int(owner.read()), signal.SIGTERM)


def remove(number: str) -> None:
    """Remove a job's folder. Raises `Refused` while it runs."""
    folder = _folder(number)
    if (folder / disknames.LOCAL_OWNER).exists() and state(number) is State.RUNNING:
        raise Refused(f"local:{number} is running", f"cancel it with `dayfly job cancel local:{number}`")
    shutil.rmtree(folder, ignore_errors=True)


def _owner(number: str) -> IO[str]:
    try:
        return (_folder(number) / disknames.LOCAL_OWNER).open()
    except FileNotFoundError:
        raise NotFound(f"there is no job local:{number} on this host", "it may have been submitted on another host") from None


def _folder(number: str) -> Path:
    return xdg("XDG_STATE_HOME", ".local/state") / "dayfly" / disknames.LOCAL_JOBS / number
