"""Jobs as PBS, Torque and HTCondor start them, with our hooks in their places.

None of the three is where the tests run: what their daemons do to a job (its variables, its session, its streams) is done here,
from their documentation and source.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from dayfly.batch.adapters.htcondor import setup as htcondor
from dayfly.batch.adapters.pbs import setup as pbs
from dayfly.batch.adapters.torque import setup as torque
from dayfly.settings import Settings
from tests.framework.site import Site
from tests.unit.batch.pbs_stand_in import executed, job, launch_event, run


@dataclass(frozen=True)
class Launched:
    """A job as its batch system starts it: the hook's argv, its variables, what is on its stdin, what is executed."""

    argv: list[str]
    environment: dict[str, str]
    stdin: bytes
    executable: str | None = None

    def start(
        self, site: Site, directory: Path | None = None, stdout: IO[bytes] | int = -1, stderr: IO[bytes] | int = -1
    ) -> subprocess.Popen[bytes]:
        """Start it as the leader of a session of its own, as batch systems do. Its streams are pipes where nothing is said."""
        with (site.work / "stdin").open("wb+") as file:
            file.write(self.stdin)
            file.seek(0)
            stdin: int = file.fileno()
            if self.stdin.endswith(b".SC\n"):  # a name comes through a pipe
                stdin, writer = os.pipe()
                os.write(writer, self.stdin)
                os.close(writer)
            started = subprocess.Popen(
                self.argv,
                executable=self.executable,
                env=self.environment,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                cwd=directory or site.work,
                start_new_session=True,
            )
            if stdin != file.fileno():
                os.close(stdin)
            return started


def by_pbs(
    site: Site,
    script: str,
    monkeypatch: pytest.MonkeyPatch,
    vnodes: str,
    resources: dict[str, str],
    variables: dict[str, str],
    shell: str = "/bin/bash",
) -> Launched:
    """A script's name comes through a pipe to a login shell. pbs_mom's file of the job's hosts is in its folder `aux`."""
    event = launch_event(job(vnodes, **resources), progname=shell)
    assert run(monkeypatch, event, pbs.hook(Settings(), dayfly(site), str(site.settings_file))) == ""
    nodes = site.folder / "code/aux" / variables["PBS_JOBID"]
    nodes.parent.mkdir(parents=True, exist_ok=True)
    nodes.write_text("n1\n")
    of_pbs = {"PBS_NODEFILE": str(nodes), "PBS_QUEUE": "short", "PBS_JOBNAME": "sim", "PBS_ENVIRONMENT": "PBS_BATCH", **variables}
    executable, argv = executed(event)
    name = named(site, of_pbs["PBS_JOBID"], script)
    escaped = name.replace(b"[", rb"\[").replace(b"]", rb"\]")  # src/resmom/start_exec.c
    return Launched(argv, own(of_pbs), escaped, executable)


def by_torque(site: Site, script: str, variables: dict[str, str], shell: str = "/bin/bash") -> Launched:
    """The same, by the job starter and variables."""
    starter = program(site.work / "starter", torque.files(Settings(), dayfly(site), str(site.settings_file), "")["starter"])
    of_torque = {"PBS_QUEUE": "short", "PBS_JOBNAME": "sim", "PBS_ENVIRONMENT": "PBS_BATCH", "PBS_NUM_NODES": "1", **variables}
    return Launched([starter, shell], own(of_torque), named(site, of_torque["PBS_JOBID"], script))


def by_htcondor(site: Site, argv: list[str], job_ad: str, slot_ad: str) -> Launched:
    """A program, with its ClassAds in its scratch folder."""
    wrapper = program(site.work / "wrapper", htcondor.files(Settings(), dayfly(site), str(site.settings_file), "")["wrapper"])
    of_job = site.work / ".job.ad"
    of_job.write_text(job_ad)
    of_slot = site.work / ".machine.ad"
    of_slot.write_text(slot_ad)
    variables = {"_CONDOR_JOB_AD": str(of_job), "_CONDOR_MACHINE_AD": str(of_slot), "_CONDOR_SCRATCH_DIR": str(site.work)}
    variables |= {"_CONDOR_WRAPPER_ERROR_FILE": str(site.work / ".job_wrapper_failure")}
    return Launched([wrapper, *argv], own(variables), b"")


def program(path: Path, text: str) -> str:
    """An executable file."""
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def dayfly(site: Site) -> str:
    """The real command, as a program of the site's."""
    return program(site.work / "dayfly", f'#!/bin/sh\nexec {sys.executable} -m dayfly "$@"\n')


def own(variables: dict[str, str]) -> dict[str, str]:
    """The job's variables; one that would keep Python from starting, if the job shell had it."""
    return {"PATH": "/usr/bin:/bin", "HOME": "/", "PYTHONHOME": "/none", "HELLO": "hi", **variables}


def named(site: Site, job: str, script: str) -> bytes:
    """pbs_mom's folder of scripts, which the machine does not see."""
    folder = site.folder / "code/mom_priv/jobs"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{job}.SC"
    path.write_text(script)
    return f"{path}\n".encode()
