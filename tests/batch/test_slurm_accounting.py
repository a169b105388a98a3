"""What Slurm accounts to a job is its machine's: live (sstat), and afterwards, in a slurmdbd with its database."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.framework.batch import BatchSystem, Why
from tests.framework.installation import eventually
from tests.framework.slurm import CGROUPS, Cluster
from tests.framework.slurm_adapter import Slurm

SHELL = "#!/bin/sh\n"
BUSY = """\
#!/bin/sh
python3 -c 'x = b"1" * (150 << 20); sum(range(20_000_000))'
echo done
while [ ! -e go ]; do sleep 0.1; done
"""


@pytest.fixture(scope="module")
def accounted(library: Path) -> Iterator[Slurm]:
    """A Slurm of one node with accounting, beside the one that the other tests use."""
    if os.getuid() != 0 or not (CGROUPS / "freezer").is_dir():
        pytest.skip("this Slurm needs root, and control groups of version 1")
    folder = Path(tempfile.mkdtemp(prefix="dayfly-slurm-", dir="/var/tmp"))
    try:
        with Cluster(folder, library, nodes=("accounted",), accounting=True) as cluster:
            yield Slurm(cluster)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def seconds(text: str) -> float:
    """Slurm's `[D-]HH:MM:SS[.f]` or `MM:SS.f`."""
    days, _, rest = text.rpartition("-")
    total = 0.0
    for part in rest.split(":"):
        total = total * 60 + float(part)
    return total + int(days or 0) * 86400


def test_what_a_running_job_uses(batch: BatchSystem, cluster: Cluster) -> None:
    job = batch.submit(BUSY)
    eventually(lambda: (batch.work / f"{job}.out").exists() and b"done" in batch.output(job), "it has computed", 90)
    shown = cluster.admin("sstat", "--noheader", "--parsable2", "--noconvert", "--format=AveCPU,MaxRSS", f"{job}.batch")
    (batch.work / "go").touch()
    assert batch.ended(job).why is Why.DONE
    (batch.work / "go").unlink()
    average, most = shown.out.decode().strip().split("|")
    used = batch.record(job)["used"]
    assert used["cpu_user"] > 0.3  # as the guest counts, for which the host's other load is its own
    assert seconds(average) + 1 > used["cpu_host"] * 0.9, (shown, used)  # whole seconds are shown
    assert int(most) > 150 << 20


def test_what_slurmdbd_keeps(accounted: Slurm) -> None:
    job = accounted.submit(SHELL + "python3 -c 'x = b\"1\" * (150 << 20); sum(range(20_000_000))'; sleep 2; exit 3\n")
    assert accounted.ended(job).status == 3
    fields = ["JobID", "State", "ExitCode", "TotalCPU", "MaxRSS", "Comment"]
    command = ["sacct", "--noheader", "--parsable2", "--noconvert", f"--format={','.join(fields)}", f"--jobs={job}"]
    eventually(lambda: b".batch|FAILED" in accounted.cluster.admin(*command).out, "slurmdbd knows the end", 30)
    whole, batch_step = (
        dict(zip(fields, line.split("|"), strict=True)) for line in accounted.cluster.admin(*command).out.decode().splitlines()
    )
    record = accounted.record(job)
    assert whole["ExitCode"] == "3:0"
    assert re.fullmatch(rf"\[dayfly debian:12 {record['image']['digest']} tcg template \d+\.\d\ds\]", whole["Comment"])
    assert seconds(batch_step["TotalCPU"]) >= record["used"]["cpu_host"] * 0.9
    assert int(batch_step["MaxRSS"]) > 150 << 20
