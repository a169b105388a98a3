"""Images that keep failing, and what a batch system is asked for."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dayfly.batch.adapters.slurm.reap import job_of
from dayfly.batch.jobshell.allocation import Allocation
from dayfly.batch.jobshell.job import BatchJob
from dayfly.batch.jobshell.report import Reporter, summary
from dayfly.cli.notices import warn
from dayfly.job.records import Records
from dayfly.job.usage import End, ImageUsed, MachineUsed, UsageRecord
from dayfly.provision import image_failures
from dayfly.settings import Settings
from dayfly.values import replace

DIGEST = "sha256:" + "ab" * 32
RECORD = UsageRecord(
    id="0123456789",
    state="running",
    begun="2026-11-23T10:00:00.000Z",
    host="elsewhere",
    uid=1,
    user="daemon",
    command=("true",),
    directory="/",
    image=ImageUsed("debian:12", DIGEST, "system"),
    machine=MachineUsed(1, 1 << 29, 1 << 30, "tcg", "agent", "template", "none"),
    phases={"spawned": 0.01, "started": 0.17},
)


@dataclass
class Asked:
    """A batch system that notes what it is asked."""

    answer: str = ""
    calls: list[str] = field(default_factory=list)

    requeue_status: int | None = None

    def show(self, text: str) -> None:
        self.calls.append(text)

    def flush(self) -> None:
        self.calls.append("flush")

    def requeue(self) -> str:
        self.calls.append("requeue")
        return self.answer


def told(settings: Settings, reason: str, restarts: str = "0", accelerator: str = "tcg") -> list[str]:
    asked = Asked()
    job = BatchJob("slurm", "q", {"job": "1", "restarts": restarts}, Allocation(1, 0))
    machine = replace(RECORD.machine, accelerator=accelerator)
    Reporter(asked, job, settings, warn).report(replace(RECORD, state="ended", machine=machine, end=End(125, reason, "why\nso")))
    return asked.calls


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache_folder=tmp_path)


@pytest.mark.parametrize(
    ("reason", "restarts", "calls"),
    [
        ("qemu-failed", "0", ["flush", "requeue"]),
        ("host-failed", "1", ["flush", "requeue"]),
        ("host-failed", "2", ["flush"]),
        ("kernel-failed", "0", ["flush"]),
        ("exit", "0", ["flush"]),
        ("not-started", "0", ["flush"]),
    ],
)
def test_only_for_the_hosts_sake_and_a_bounded_number_of_times(
    settings: Settings, reason: str, restarts: str, calls: list[str]
) -> None:
    assert told(settings, reason, restarts) == calls


def test_kernels_that_do_not_come_up_under_kvm(settings: Settings) -> None:
    assert told(settings, "kernel-failed", accelerator="kvm") == ["flush", "requeue"]
    assert told(settings, "root-failed", accelerator="kvm") == ["flush"]
    (note,) = (settings.cache_folder / "failing").iterdir()
    assert note.read_text().startswith("1\n")  # the second only


def test_an_image_is_backed_off_after_three_failures_in_a_row(settings: Settings) -> None:
    for _ in range(2):
        told(settings, "agent-failed")
        image_failures.check(settings, DIGEST)
    told(settings, "root-failed")
    with pytest.raises(image_failures.Failing, match="the last 3 machines of this image failed to start on this host: why so"):
        image_failures.check(settings, DIGEST)
    (note,) = (settings.cache_folder / "failing").iterdir()
    os.utime(note, (1, 1))
    image_failures.check(settings, DIGEST)
    told(settings, "root-failed")
    asked = Asked()
    Reporter(asked, BatchJob("slurm", "q", {}, Allocation(1, 0)), settings, warn).report(RECORD)
    image_failures.check(settings, DIGEST)
    assert asked.calls == [summary(RECORD)] == [f"debian:12 {DIGEST} tcg template 0.16s"]


def test_a_running_job_of_another_host_is_not_called_lost(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.write(RECORD)
    assert next(records.all()).state == "running"
    records.write(replace(RECORD, host=os.uname().nodename))
    assert next(records.all()).state == "lost"


def test_the_job_of_a_cgroup() -> None:
    assert job_of("9:freezer:/slurm_n1/uid_0/job_42/step_batch\n0::/x") == "42"
    assert job_of("0::/system.slice/slurmstepd.scope/job_7/step_0/user/task_0") == "7"
    assert job_of("0::/user.slice/job_7") == ""
