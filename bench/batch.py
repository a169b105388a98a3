"""What a machine costs a batch job under each batch system, beside the same job without one.

python -m bench.batch [--systems slurm,gridengine] [--runs 10] [--jobs 50], as root: it starts each with two nodes on this host.
`bench.slurm` looks closer, at srun beside a bare clone.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import TEST_LIBRARY, build
from tests.framework.batch import BatchSystem, State, Why, Wish
from tests.framework.gridengine import Grid
from tests.framework.gridengine_adapter import GridEngine
from tests.framework.installation import eventually
from tests.framework.slurm import Cluster
from tests.framework.slurm_adapter import Slurm

from bench.figures import Figure, show, show_host

IMAGE = "debian:12"
SCRIPT = "#!/bin/sh\ntrue\n"


@contextlib.contextmanager
def running(name: str) -> Iterator[BatchSystem]:
    """A batch system on this host."""
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


def one(batch: BatchSystem, image: str | None) -> float:
    """Seconds from a job's submission to its end, as the batch system shows it."""
    begun = time.monotonic()
    job = batch.submit(SCRIPT, Wish(image=image, memory=600))
    eventually(lambda: batch.state(job) is State.ENDED, "the job has ended", 60)
    taken = time.monotonic() - begun
    assert batch.ended(job).why is Why.DONE
    return taken


def many(batch: BatchSystem, image: str | None, count: int) -> float:
    """Short jobs a minute, of an array."""
    begun = time.monotonic()
    job = batch.submit(SCRIPT, Wish(image=image, memory=600, array=count))
    eventually(lambda: batch.state(job) is State.ENDED, "all have ended", 600)
    return count / (time.monotonic() - begun) * 60


def measure(batch: BatchSystem, runs: int, jobs: int) -> None:
    """Jobs one by one, in turn without and with a machine, and many at once."""
    one(batch, IMAGE)  # makes the template
    pairs = [(one(batch, None), one(batch, IMAGE)) for _ in range(runs + 1)][1:]  # the first warms the page cache
    native, virtual = zip(*pairs, strict=True)
    print(f"\n{batch.name}: a job `true`, from its submission to its end")
    costs = tuple(with_it - without for without, with_it in pairs)
    show(Figure("natively", native, "s"), [Figure("in a machine", virtual, "s"), Figure("the difference", costs, "s")])
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
