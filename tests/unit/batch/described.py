"""A job that says something of everything."""

from __future__ import annotations

from dayfly.batch.submission.description import JobSpec

WHOLE = JobSpec(
    image="debian:12",
    command=("./simulate.sh", "--name", "it's"),
    directory="/home/ada/runs",
    name="sim",
    cpus=2,
    memory=2 << 30,
    time=5400,
    shares=("/data:ro",),
    network="nat",
    boot="system",
    first=2,
    last=4,
    queue="long",
    account="physics",
    environment={"THREADS": "2", "ODD": "a 'b' $c"},
    output="out.txt",
    errors="err.txt",
)
