"""Machines that cannot start: for the host's sake the job goes to another one, for the image's it fails at once."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.framework.batch import BatchSystem, Interactive, JobRequest, Why
from tests.framework.slurm import Cluster

SHELL = "#!/bin/sh\n"
ANYWHERE = JobRequest(requeue=True)
_QEMU = """\
#!/bin/sh
case $(cat /proc/self/cgroup) in *slurm_{nodes}/*) echo "this QEMU is broken" >&2; exit 1;; esac
exec {qemu} "$@"
"""
Change = Callable[[str, str, str | int], None]


@pytest.fixture
def change(batch: BatchSystem, cluster: Cluster) -> Iterator[Change]:
    """Changes one of the site's settings for a test."""
    before = cluster.settings.read_text()

    def changed(table: str, name: str, value: str | int) -> None:
        head, _, tail = cluster.settings.read_text().partition(f"[{table}]\n")
        own, mark, others = tail.partition("\n[")
        kept = "\n".join(line for line in own.splitlines() if not line.startswith(f"{name} = "))
        cluster.settings.write_text(f"{head}[{table}]\n{name} = {json.dumps(value)}\n{kept}{mark}{others}")

    yield changed
    cluster.settings.write_text(before)
    shutil.rmtree(cluster.folder / "cache" / cluster.user / "failing", ignore_errors=True)


@pytest.fixture
def broken(cluster: Cluster, change: Change) -> Callable[[str], None]:
    """A QEMU that does not start on some nodes: `n1`, or `*` for all."""

    def breaks(nodes: str) -> None:
        stub = cluster.folder / "qemu"
        stub.write_text(_QEMU.format(nodes=nodes, qemu=os.environ.get("DAYFLY_TEST_QEMU", "/usr/bin/qemu-system-x86_64")))
        stub.chmod(0o755)
        change("machine", "qemu", str(stub))
        change("templates", "user", str(cluster.folder / "cache/{user}/other-templates"))

    return breaks


@pytest.fixture
def log() -> Iterator[Callable[[], str]]:
    """What the host's log was told."""
    place = Path("/dev/log")
    if place.exists():
        pytest.skip("this host has a log of its own")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(place))
        place.chmod(0o666)
        listening.setblocking(False)

        def read() -> str:
            said = b""
            try:
                while True:
                    said += listening.recv(65536) + b"\n"
            except BlockingIOError:
                return said.decode()

        try:
            yield read
        finally:
            place.unlink()


def runs(batch: BatchSystem, job: str) -> list[tuple[str, str]]:
    """The node and the reason of the end of each run of a job."""
    found = [record for record in batch.records() if record["batch"].get("job") == job]
    return [(one["batch"]["node"], one["end"]["reason"]) for one in sorted(found, key=lambda record: str(record["begun"]))]


def test_a_node_with_a_broken_qemu(
    batch: BatchSystem, cluster: Cluster, broken: Callable[[str], None], log: Callable[[], str]
) -> None:
    broken("n1")
    job = batch.submit(SHELL + "echo done\n", ANYWHERE)
    assert batch.ended(job, 120).why is Why.DONE, batch.errors(job)
    assert batch.output(job) == b"done\n"
    assert runs(batch, job) == [("n1", "qemu-failed"), ("n2", "exit")]
    assert "n1 could not start a machine, and the job is requeued (1 of 2)" in batch.errors(job)
    assert f"slurm job {job} had no machine on n1" in log()


def test_nodes_that_are_all_broken(batch: BatchSystem, cluster: Cluster, broken: Callable[[str], None], change: Change) -> None:
    broken("*")
    change("batch", "requeues", 1)
    job = batch.submit(SHELL + "echo never\n", ANYWHERE)
    end = batch.ended(job, 120)
    assert (end.why, end.status) == (Why.FAILED, 125), batch.errors(job)
    assert runs(batch, job) == [("n1", "qemu-failed"), ("n2", "qemu-failed")]
    assert "n2 could not start a machine, and the job fails: it was already restarted (1 of 1)" in batch.errors(job)


def test_who_cannot_be_put_back(batch: BatchSystem, broken: Callable[[str], None]) -> None:
    broken("*")
    assert isinstance(batch, Interactive)
    done = batch.interactive(["true"])
    assert done.status == 125
    assert "fails: Slurm requeues only batch jobs" in done.err
    job = batch.submit(SHELL + "true\n")
    assert (batch.ended(job).why, batch.ended(job).status) == (Why.FAILED, 125)
    assert "fails: Slurm says: " in batch.errors(job)


def test_nodes_whose_scratch_folder_is_full(batch: BatchSystem, cluster: Cluster, change: Change) -> None:
    folder = cluster.folder / "full"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k,mode=1777", "tmpfs", folder], check=True)
    try:
        (folder / "file").write_bytes(bytes(16384))
        change("scratch", "folder", str(folder))
        job = batch.submit(SHELL + "echo never\n", ANYWHERE)
        end = batch.ended(job, 120)
        assert (end.why, end.status) == (Why.FAILED, 125), batch.errors(job)
        # Put back twice. The second time no node is left that it was not on.
        assert runs(batch, job)[:2] == [("n1", "host-failed"), ("n2", "host-failed")]
        assert len(runs(batch, job)) == 3
        assert f"no space left in {folder}" in batch.errors(job)
    finally:
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()


def test_nodes_where_kvm_is_asked_for_and_broken(batch: BatchSystem, cluster: Cluster, change: Change) -> None:
    if Path("/dev/kvm").exists() and Path("/dev/kvm").stat().st_mode & 0o006 == 0o006:
        pytest.skip("the jobs' user can use KVM here")
    change("machine", "accelerator", "kvm")
    change("batch", "requeues", 1)
    job = batch.submit(SHELL + "echo never\n", ANYWHERE)
    assert (batch.ended(job, 120).why, batch.record(job)["machine"]["accelerator"]) == (Why.FAILED, "kvm")
    assert runs(batch, job) == [("n1", "qemu-failed"), ("n2", "qemu-failed")]
    assert "/dev/kvm" in batch.errors(job) or "KVM" in batch.errors(job)


def test_a_host_without_qemu_or_scratch(batch: BatchSystem, change: Change) -> None:
    change("scratch", "folder", "/nonexistent")
    job = batch.submit(SHELL + "true\n")
    assert batch.ended(job).status == 125
    assert "/nonexistent" in batch.errors(job)
    assert batch.record(job)["end"]["reason"] == "host-failed"
    change("machine", "qemu", "no-such-qemu")
    job = batch.submit(SHELL + "true\n")
    assert batch.ended(job).status == 125
    assert "no-such-qemu is not installed" in batch.errors(job)
    assert runs(batch, job) == [(batch.record(job)["batch"]["node"], "host-failed")]


def test_an_image_that_keeps_failing(batch: BatchSystem, cluster: Cluster, change: Change) -> None:
    change("templates", "user", str(cluster.folder / "cache/{user}/no-templates"))
    change("machine", "boot_timeout", "1s")
    change("templates", "limit", "0")
    for _ in range(3):
        job = batch.submit(SHELL + "true\n", ANYWHERE)
        assert (batch.ended(job).why, batch.ended(job).status) == (Why.FAILED, 125)
        assert len(runs(batch, job)) == 1
        assert batch.record(job)["end"]["reason"] in ("kernel-failed", "root-failed", "agent-failed")
    job = batch.submit(SHELL + "true\n", ANYWHERE)
    assert batch.ended(job).status == 125
    assert "the last 3 machines of this image failed to start on this host" in batch.errors(job)
    assert batch.record(job)["machine"]["accelerator"] == ""
