"""Every test of the conformance suite runs on every batch system that is installed, and leaves nothing behind on any.

One Slurm at a time: two on a host whose nodes have the same names would share those nodes' cgroups. Slurm and Grid Engine can run
at the same time (`--on`): each has a user of its own, by whom a test knows what its jobs left.
"""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.framework.batch import BatchSystem
from tests.framework.gridengine import Grid
from tests.framework.gridengine_adapter import GridEngine
from tests.framework.installation import eventually
from tests.framework.slurm import CGROUPS, Cluster
from tests.framework.slurm_adapter import Slurm

SYSTEMS = ("slurm", "gridengine")


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


@pytest.fixture(scope="session")
def gridengine(library: Path, system_image: str) -> Iterator[GridEngine]:
    """A running Grid Engine."""
    if os.getuid() != 0:
        pytest.skip("this Grid Engine needs root, for its hosts' namespaces")
    folder = Path(tempfile.mkdtemp(prefix="dayfly-gridengine-", dir="/var/tmp"))
    try:
        with Grid(folder, library, user="games") as grid:
            yield GridEngine(grid)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`make test` runs each batch system's tests beside the other's."""
    parser.addoption("--on", choices=SYSTEMS, help="run the tests of this batch system alone")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of what only one batch system has run on that one."""
    others = {"cluster": "slurm", "grid": "gridengine"}
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        about = {others[name] for name in getattr(item, "fixturenames", ()) if name in others}
        on = item.callspec.params["system"] if hasattr(item, "callspec") and "system" in item.callspec.params else SYSTEMS[0]
        chosen = config.getoption("--on") in (None, on) and not about - {on}
        (kept if chosen else left_out).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


@pytest.fixture(scope="session", params=SYSTEMS)
def system(request: pytest.FixtureRequest) -> BatchSystem:
    """One batch system after the other."""
    found: BatchSystem = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def batch(system: BatchSystem, request: pytest.FixtureRequest) -> Iterator[BatchSystem]:
    """A batch system with idle nodes; after the test no machine, process, cgroup, mount or file of a job may be left."""
    for mark in request.node.iter_markers("needs"):
        if mark.args[0] in system.cannot:
            pytest.skip(f"{system.name} cannot {mark.args[0]}: {system.cannot[mark.args[0]]}")
    system.until_idle()
    before = files(system)
    yield system
    system.settle()
    eventually(lambda: not system.machines(), "no machine is left", 10, system.machines)
    eventually(lambda: not system.leftovers(), "nothing of a job is left", 15, system.leftovers)
    system.until_idle()  # and not drained
    assert not [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(system.folder) in line]
    assert not list((system.folder / "scratch").iterdir())
    assert not [path for path in files(system) - before if "dayfly" in path.name and _is_users(path, system.user)]
    assert all(record["end"] for record in system.records() if record["machine"]["pid"] == 0)
    assert not list((system.folder / "records").rglob(".*")), "half-written records"


@pytest.fixture
def cluster(batch: BatchSystem) -> Cluster:
    """The Slurm under the batch system."""
    assert isinstance(batch, Slurm)
    return batch.cluster


@pytest.fixture
def grid(batch: BatchSystem) -> Grid:
    """The Grid Engine under the batch system."""
    assert isinstance(batch, GridEngine)
    return batch.grid


def _is_users(path: Path, user: str) -> bool:
    """Whether a file is this user's, and not one of tests that run beside these, or gone."""
    try:
        return path.lstat().st_uid == pwd.getpwnam(user).pw_uid
    except FileNotFoundError:
        return False


def files(system: BatchSystem) -> set[Path]:
    """Where a machine could leave files beside its own folders."""
    return {path for folder in (system.work, Path("/dev/shm"), Path("/tmp")) for path in folder.iterdir()}
