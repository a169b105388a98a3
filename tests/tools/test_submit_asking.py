"""Asking for submitted jobs: a batch system that does not answer for a while, jobs that are listed and forgotten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.framework.site import Site

from dayfly import settings as site
from dayfly.batch.submission import client, store
from dayfly.batch.submission.client import Client
from dayfly.batch.submission.description import JobSpec
from dayfly.batch.submission.states import NoAnswer, State
from dayfly.batch.systems import SYSTEMS
from dayfly.errors import Refused

_SQUEUE = """\
#!/bin/sh
# What squeue says of job 7, first of all twice nothing: its daemon is being started anew.
count=$(cat {folder}/count 2>/dev/null || echo 0)
echo $((count + 1)) >{folder}/count
[ "$count" -lt {silent} ] && exit 1
[ "$count" -lt {ends} ] && echo "7 RUNNING None"
exit 0
"""


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state/dayfly"


@pytest.fixture
def job(tmp_path: Path) -> store.SubmittedJob:
    store.prepare()
    description = JobSpec("debian:12", ("true",), str(tmp_path))
    return store.remember(description, "slurm", "7", ("out", "err"))


def squeue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, silent: int, ends: int) -> None:
    program = tmp_path / "bin/squeue"
    program.parent.mkdir()
    program.write_text(_SQUEUE.format(folder=tmp_path, silent=silent, ends=ends))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


def test_a_wait_outlives_a_daemon_that_is_started_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, job: store.SubmittedJob
) -> None:
    squeue(monkeypatch, tmp_path, silent=2, ends=3)
    assert Client(SYSTEMS).wait(job, site.load()).state is State.ENDED
    assert (tmp_path / "count").read_text() == "4\n"


def test_a_wait_ends_when_nobody_answers_for_long(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, job: store.SubmittedJob
) -> None:
    squeue(monkeypatch, tmp_path, silent=99, ends=99)
    monkeypatch.setattr(client, "_PATIENCE", 1.0)
    with pytest.raises(NoAnswer, match="squeue failed"):
        Client(SYSTEMS).wait(job, site.load())


def test_jobs_are_listed_and_forgotten(site: Site, state: Path, job: store.SubmittedJob) -> None:
    (state / "submitted/slurm-8.json").write_text("{")  # half of one: a crash of something else's
    assert site.dayfly("job", "list").out.decode().split()[3:5] == ["slurm:7", "job"]
    (shown,) = json.loads(site.dayfly("job", "list", "--json").out)
    assert (shown["id"], shown["submitted"]) == (job.id, job.submitted)
    assert site.dayfly("job", "forget", job.id).status == 0
    assert json.loads(site.dayfly("job", "list", "--json").out) == []
    assert "no jobs were submitted" in site.dayfly("job", "list").err
    assert "was submitted from here" in site.dayfly("job", "forget", job.id).err


def test_no_job_is_submitted_that_could_not_be_remembered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("no folder")
    with pytest.raises(Refused, match="cannot be made"):
        Client(SYSTEMS).submit(JobSpec("debian:12", ("true",), str(tmp_path)), None)
