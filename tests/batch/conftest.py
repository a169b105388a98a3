"""Every test of the conformance suite runs on every batch system that is installed, and leaves nothing behind on any.

One at a time: two Slurms on a host whose nodes have the same names would share those nodes' cgroups.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.framework.batch import BatchSystem
from tests.framework.slurm import CGROUPS, Cluster, eventually
from tests.framework.slurm_adapter import Slurm


@pytest.fixture(scope="session")
def slurm(library: Path, system_image: str) -> Iterator[Slurm]:
    """A running Slurm. Its folder is one that an ordinary user can reach, and has the images that there are now."""
    if os.getuid() != 0 or not (CGROUPS / "freezer").is_dir():
        pytest.skip("this Slurm needs root, and control groups of version 1")
    folder = Path(tempfile.mkdtemp(prefix="dayfly-slurm-", dir="/var/tmp"))
    try:
        with Cluster(folder, library) as cluster:
            yield Slurm(cluster)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", params=["slurm"])
def system(request: pytest.FixtureRequest) -> BatchSystem:
    """One batch system after the other."""
    found: BatchSystem = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def batch(system: BatchSystem) -> Iterator[BatchSystem]:
    """A batch system with idle nodes; after the test no machine, process, cgroup, mount or file of a job may be left."""
    system.until_idle()
    before = files(system)
    yield system
    if isinstance(system, Slurm):
        system.settle()
    eventually(lambda: not system.machines(), "no machine is left", 10, system.machines)
    eventually(lambda: not system.leftovers(), "nothing of a job is left", 15, system.leftovers)
    system.until_idle()
    assert not [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(system.folder) in line]
    assert not list((system.folder / "scratch").iterdir())
    assert not [path for path in files(system) - before if "dayfly" in path.name and not _is_roots(path)]
    assert all(record["end"] for record in system.records() if record["machine"]["pid"] == 0)
    assert not list((system.folder / "records").rglob(".*")), "half-written records"
    system.until_idle()  # and not drained


@pytest.fixture
def cluster(batch: BatchSystem) -> Cluster:
    """The Slurm under the batch system."""
    assert isinstance(batch, Slurm)
    return batch.cluster


def _is_roots(path: Path) -> bool:
    """Whether a file is root's, as those of tests are that run beside these, or is gone."""
    try:
        return path.lstat().st_uid == 0
    except FileNotFoundError:
        return True


def files(system: BatchSystem) -> set[Path]:
    """Where a machine could leave files beside its own folders."""
    return {path for folder in (system.work, Path("/dev/shm"), Path("/tmp")) for path in folder.iterdir()}
