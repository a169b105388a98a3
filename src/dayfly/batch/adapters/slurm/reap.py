"""Cleans up a node after slurmstepd or the node itself died: machines of jobs that are gone, and their empty cgroups."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from dayfly.machine.processes import running

CGROUPS = Path("/sys/fs/cgroup")
_JOB = re.compile(r"/slurm[^:\n]*/job_(\d+)(?:/|$)", re.MULTILINE)
_STEPD = re.compile(r"slurmstepd: \[(\d+)\.")
_PLACES = ("*/slurm*/uid_*/job_*", "slurm*/uid_*/job_*", "system.slice/*slurmstepd.scope/job_*")
_AGE = 60.0
"""Seconds that an empty cgroup may exist: a job that is about to start has one for a moment."""


def reap(age: float = _AGE) -> list[str]:
    """End machines, and remove empty cgroups, of jobs without a slurmstepd. Returns lines that describe what was done."""
    alive = set(_looked_after())
    return [*_machines(alive), *_folders(alive, age)]


def _looked_after() -> Iterator[str]:
    """The jobs that have a slurmstepd."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                step = _STEPD.match(entry.joinpath("cmdline").read_bytes().decode(errors="replace"))
                if step is not None:
                    yield step[1]


def _machines(alive: set[str]) -> Iterator[str]:
    for machine in running():
        with contextlib.suppress(OSError):
            job = job_of(Path(f"/proc/{machine.pid}/cgroup").read_text())
            if job and job not in alive:
                os.kill(machine.pid, signal.SIGKILL)
                yield f"machine {machine.identity} of job {job}, process {machine.pid}"


def job_of(cgroups: str) -> str:
    """The Slurm job of a process, by its /proc/PID/cgroup; empty: none."""
    found = _JOB.search(cgroups)
    return found[1] if found else ""


def _folders(alive: set[str], age: float) -> Iterator[str]:
    now = time.time()
    for place in _PLACES:
        for folder in CGROUPS.glob(place):
            with contextlib.suppress(OSError):
                if folder.name.removeprefix("job_") in alive or now - folder.stat().st_mtime < age or not _empty(folder):
                    continue
                for path, _, _ in os.walk(folder, topdown=False):
                    Path(path).rmdir()
                yield f"cgroup {folder}"


def _empty(folder: Path) -> bool:
    return not any(processes.read_text() for processes in folder.rglob("cgroup.procs"))
