"""What a dead slurmstepd left on a node goes with the next epilog; what lives stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.framework.batch import BatchSystem, Why
from tests.framework.installation import eventually
from tests.framework.slurm import CGROUPS, Cluster

SHELL = "#!/bin/sh\n"
GONE = "99999"
_NAMED = ["-name", "guest=dayfly:00000000ff:owned:debian,,12", "-m", "1024K", "-smp", "1", "-accel", "tcg"]


@pytest.fixture
def orphan(cluster: Cluster) -> Iterator[tuple[subprocess.Popen[bytes], list[Path]]]:
    """What looks like a machine, in the cgroups of a job that there is not."""
    folders = [CGROUPS / f"{controller}/slurm_n1/uid_0/job_{GONE}/step_batch" for controller in ("freezer", "memory")]
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()", *_NAMED]) as machine:
        try:
            for folder in folders:
                folder.mkdir(parents=True)
                (folder / "cgroup.procs").write_text(str(machine.pid))
            yield machine, folders
        finally:
            machine.kill()
            machine.wait()
    for folder in folders:
        for path in (folder, folder.parent):
            if path.exists():
                path.rmdir()


def epilog(cluster: Cluster, *options: str) -> list[str]:
    done = cluster.admin(str(cluster.folder / "dayfly"), "batch", "epilog", "slurm", *options)
    assert done.status == 0, done.err
    return done.out.decode().splitlines()


def test_a_machine_whose_job_is_gone(
    batch: BatchSystem, cluster: Cluster, orphan: tuple[subprocess.Popen[bytes], list[Path]]
) -> None:
    machine, folders = orphan
    running = batch.submit(SHELL + "echo up; sleep 4; echo end\n")
    eventually(lambda: batch.machine_of(running), "a job's machine runs", 30)
    # Empty cgroups of earlier jobs, which Slurm has left behind, may go with it.
    machines = [line for line in epilog(cluster) if not line.startswith("cgroup ")]
    assert machines == [f"machine 00000000ff of job {GONE}, process {machine.pid}"]
    assert machine.wait() == -signal.SIGKILL
    assert all(folder.exists() for folder in folders), "an empty cgroup may be of a job that is about to start"
    assert {f"cgroup {folder.parent}" for folder in folders} <= set(epilog(cluster, "--age", "0"))
    assert batch.ended(running).why is Why.DONE
    assert batch.output(running) == b"up\nend\n"


def test_the_epilog_that_set_up_wrote(
    batch: BatchSystem, cluster: Cluster, orphan: tuple[subprocess.Popen[bytes], list[Path]]
) -> None:
    machine, _ = orphan
    job = batch.submit(SHELL + "true\n")
    assert batch.ended(job).why is Why.DONE
    assert machine.wait(20) == -signal.SIGKILL


def test_cgroups_that_a_killed_slurmstepd_left(batch: BatchSystem, cluster: Cluster) -> None:
    job = batch.submit(SHELL + "echo up; sleep 100\n")
    eventually(lambda: batch.machine_of(job), "the machine runs", 30)
    os.kill(batch.worker(job), signal.SIGKILL)
    eventually(lambda: batch.machine_of(job) is None, "the machine is gone", 5)
    batch.cancel(job)
    batch.ended(job)
    batch.until_idle()
    epilog(cluster, "--age", "0")
    assert not list(CGROUPS.glob(f"*/slurm_n*/uid_*/job_{job}"))
