"""The cost of a machine for a batch job under each batch system, compared with the same job without a machine.

python -m bench.batch [--systems slurm,gridengine] [--runs 10] [--jobs 50], as root: it starts each with two nodes on this host.
`bench.slurm` has more detail: it compares srun with a bare clone.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import select
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.framework.batch import BatchSystem, JobRequest, State, Why
from tests.framework.gridengine import Grid
from tests.framework.gridengine_adapter import GridEngine
from tests.framework.images import TEST_LIBRARY, build
from tests.framework.installation import eventually
from tests.framework.slurm import Cluster
from tests.framework.slurm_adapter import Slurm

from bench.figures import Figure, show, show_host

IMAGE = "debian:12"
SHORT = "#!/bin/sh\ntrue\n"
SEEN = "#!/bin/sh\nexec sleep 0.2\n"
"""The shortest job whose process on the node is reliably found while it runs."""


@contextlib.contextmanager
def running(name: str) -> Iterator[BatchSystem]:
    """A batch system that runs on this host."""
    folder = Path(tempfile.mkdtemp(prefix=f"dayfly-{name}-", dir="/var/tmp"))
    try:
        if name == "slurm":
            with Cluster(folder, TEST_LIBRARY) as cluster:
                yield Slurm(cluster)
        else:
            with Grid(folder, TEST_LIBRARY) as grid:
                yield GridEngine(grid)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Taken:
    """Seconds of one job: `node` is the lifetime of the batch system's process for it on the node, `shown` the time from its
    submission until the batch system shows its end."""

    node: float
    shown: float


def lifetime(batch: BatchSystem, job: str) -> float:
    """The lifetime of that process in seconds. Polling finds it; the kernel reports when it began and ended."""
    found: list[int] = []

    def seen() -> bool:
        with contextlib.suppress(ValueError, OSError):  # not started yet
            found.append(batch.worker(job))
        return bool(found)

    eventually(seen, "the job has begun", 30)
    descriptor = os.pidfd_open(found[0])
    begun = int(Path(f"/proc/{found[0]}/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.poll()
    ended = time.clock_gettime(time.CLOCK_BOOTTIME)
    os.close(descriptor)
    return ended - begun


def one(batch: BatchSystem, image: str | None) -> Taken:
    """A single job. Batch systems check their jobs once a second, so it is submitted at a random time within a second."""
    batch.until_idle()
    time.sleep(random.random())
    begun = time.monotonic()
    job = batch.submit(SEEN, JobRequest(image=image, memory=600))
    node = lifetime(batch, job)
    eventually(lambda: batch.state(job) is State.ENDED, "the job has ended", 60)
    shown = time.monotonic() - begun
    assert batch.ended(job).why is Why.DONE
    return Taken(node, shown)


def many(batch: BatchSystem, image: str | None, count: int) -> float:
    """Short jobs of an array, per minute."""
    begun = time.monotonic()
    job = batch.submit(SHORT, JobRequest(image=image, memory=600, array=count))
    eventually(lambda: batch.state(job) is State.ENDED, "all have ended", 600)
    return count / (time.monotonic() - begun) * 60


def measure(batch: BatchSystem, runs: int, jobs: int) -> None:
    """Single jobs, in turn without and with a machine, and many jobs at once."""
    one(batch, IMAGE)  # makes the template
    pairs = [(one(batch, None), one(batch, IMAGE)) for _ in range(runs + 1)][1:]  # the first warms the page cache
    native, virtual = zip(*pairs, strict=True)
    print(f"\n{batch.name}: a job `sleep 0.2`, on its node")
    costs = tuple(with_it.node - without.node for without, with_it in pairs)
    show(
        Figure("natively", tuple(taken.node for taken in native), "s"),
        [Figure("in a machine", tuple(taken.node for taken in virtual), "s"), Figure("the difference", costs, "s")],
    )
    print(f"\n{batch.name}: the same, from its submission until the batch system shows its end")
    show(
        Figure("natively", tuple(taken.shown for taken in native), "s"),
        [Figure("in a machine", tuple(taken.shown for taken in virtual), "s")],
    )
    if jobs:
        rates = [(many(batch, None, jobs), many(batch, IMAGE, jobs)) for _ in range(2)]
        print(f"\n{batch.name}: an array of {jobs} jobs `true` on 2 nodes, jobs a minute")
        show(
            Figure("natively", tuple(rate for rate, _ in rates), "/min"),
            [Figure("in machines", tuple(rate for _, rate in rates), "/min")],
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", default="slurm,gridengine")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=50)
    arguments = parser.parse_args()
    build(IMAGE, TEST_LIBRARY)
    show_host()
    for name in arguments.systems.split(","):
        with running(name) as batch:
            measure(batch, arguments.runs, arguments.jobs)


if __name__ == "__main__":
    main()
