"""The cost of a machine for a Slurm job, compared with a bare clone, and short jobs per minute with and without machines.

python -m bench.slurm [--runs 10] [--jobs 100], as root: it starts a Slurm with two nodes on this host.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

from tests.framework.batch import JobRequest
from tests.framework.images import TEST_LIBRARY, build
from tests.framework.installation import eventually
from tests.framework.slurm import Cluster
from tests.framework.slurm_adapter import Slurm

from bench.clones import BareClones
from bench.figures import Figure, show, show_host
from dayfly.units import format_size

IMAGE = "debian:12"
VM = f"--vm-image={IMAGE}"


def srun(cluster: Cluster, *words: str) -> float:
    """Seconds of one srun."""
    begun = time.monotonic()
    done = cluster.run("srun", *words)
    assert done.status == 0, done.err
    return time.monotonic() - begun


def same_shape(cluster: Cluster, library: Path) -> BareClones:
    """Bare clones with the shape of the last job's machine, with the jobs' directory shared."""
    batch = Slurm(cluster)
    machine = max(batch.records(), key=lambda record: str(record["begun"]))["machine"]
    assert machine["start"] == "template", machine
    settings = cluster.folder / "bench.toml"
    settings.write_text(
        f'[library]\nuser = "{library}"\n[templates]\nuser = "{cluster.folder}/bench-templates"\n'
        f'[cache]\nfolder = "{cluster.folder}/bench-cache"\n[scratch]\nfolder = "{cluster.folder}/scratch"\nsize = "1G"\n'
        f'[machine]\naccelerator = "tcg"\ncpus = {machine["cpus"]}\nmemory = {machine["memory"]}\n'
    )
    os.environ["DAYFLY_SETTINGS"] = str(settings)
    print(f"machines of {machine['cpus']} CPU and {format_size(machine['memory'])}, emulated")
    return BareClones(f"user/{IMAGE}", str(cluster.work))


def one_job(cluster: Cluster, library: Path, runs: int) -> None:
    """`srun true` natively and in a machine, and a bare clone, in turn."""
    srun(cluster, VM, "true")  # makes the template
    srun(cluster, VM, "true")
    clones = same_shape(cluster, library)
    taken: list[tuple[float, float, float, float]] = []
    for _ in range(runs + 1):
        floor, ended = clones.one((b"echo",), mounting=True)
        taken.append((floor, ended, srun(cluster, "true"), srun(cluster, VM, "true")))
    floors, ends, native, virtual = zip(*taken[1:], strict=True)  # the first warms the page cache
    costs = tuple(one - other for one, other in zip(virtual, native, strict=True))
    print("\nsrun true")
    show(
        Figure("bare clone, to the job's first byte", floors, "s"),
        [
            Figure("bare clone, to the job's exit report", ends, "s"),
            Figure("srun true", native, "s"),
            Figure("srun --vm-image true", virtual, "s"),
            Figure("srun --vm-image true, less srun true", costs, "s"),
        ],
    )


def many_jobs(cluster: Cluster, count: int) -> None:
    """An array of short batch jobs, natively and in machines, with as many at once as the two nodes have CPUs."""
    batch = Slurm(cluster)
    rates = []
    batch.ended(batch.submit("#!/bin/sh\n", JobRequest(image=IMAGE)))  # makes the template
    for image in (None, IMAGE, None, IMAGE):
        before = len(batch.records())
        begun = time.monotonic()
        batch.submit("#!/bin/sh\ntrue\n", JobRequest(image=image, array=count))
        eventually(lambda: not cluster.admin("squeue", "-h").out, "every job has ended", 600)
        rates.append(count / (time.monotonic() - begun) * 60)
        records = batch.records()[before:]
        assert len(batch.records()) - before == (count if image else 0)
        assert all(record["end"]["status"] == 0 for record in records), [record["end"] for record in records]
    print(f"\nsbatch --array of {count} jobs `true`, 4 at a time on 2 nodes: jobs a minute")
    show(Figure("natively", tuple(rates[0::2]), "/min"), [Figure("in machines", tuple(rates[1::2]), "/min")])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=100)
    arguments = parser.parse_args()
    build(IMAGE, TEST_LIBRARY)
    show_host()
    folder = Path(tempfile.mkdtemp(prefix="dayfly-slurm-", dir="/var/tmp"))
    try:
        with Cluster(folder, TEST_LIBRARY) as cluster:
            one_job(cluster, TEST_LIBRARY, arguments.runs)
            if arguments.jobs:
                many_jobs(cluster, arguments.jobs)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
