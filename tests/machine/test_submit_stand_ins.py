"""One description of a job for PBS, HTCondor and Torque, from `dayfly submit` to `dayfly job logs`, in real machines.

None of the three is here: their commands are stand-ins that keep a job and answer, and the tests are the daemons, which read the
job's directives as those do, and start it with our hooks (tests/framework/batch_stand_ins.py).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.framework.batch_stand_ins import HtCondor, Pbs, StandIn, Torque
from tests.framework.site import IMAGE, SECONDS, Site


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(params=[Pbs, HtCondor, Torque])
def batch(request: pytest.FixtureRequest, site: Site, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in: StandIn = request.param(site, monkeypatch)
    return stand_in


def submitted(batch: StandIn, *lines: str, command: str = "true") -> str:
    """Submit a job that runs in a folder of its own, which is not below its user's home."""
    runs = batch.site.work / "runs"
    runs.mkdir()
    (runs / "run.sh").write_text(command)
    text = [
        f'image = "{IMAGE}"',
        'command = ["sh", "run.sh", "it\'s $(a)"]',
        'name = "described"',
        'memory = "900M"',
        *lines,
    ]
    (runs / "job.toml").write_text("\n".join(text))
    done = batch.submit(runs / "job.toml")
    assert done.status == 0, done.err
    return done.out.decode().strip()


def test_a_job_from_its_description_to_its_logs(batch: StandIn) -> None:
    (batch.site.work / "data").mkdir()
    (batch.site.work / "data/file").write_text("shared\n")
    command = 'echo "$WORD $1"; pwd; uname -n; nproc; cat ../data/file; rm ../data/file; echo bad >&2; exit 5'
    words = ('environment = { WORD = "it\'s\\n#PBS -q $HOME" }', "cpus = 1", 'shares = ["../data:ro"]')
    job = submitted(batch, *words, command=command)
    assert job == f"{batch.name}:{batch.job}"
    batch.shows("waiting")
    assert state_of(batch, job) == ("waiting", None)
    assert "has not written any output yet" in batch.dayfly("job", "logs", job).err
    (task,) = batch.tasks()
    with batch.start(task) as started:
        batch.shows("running")
        assert state_of(batch, job) == ("running", None)
        assert started.wait(SECONDS) == 5
    batch.forgets({})
    waited = batch.dayfly("job", "wait", job)
    assert (waited.status, waited.err) == (5, "")
    out = batch.dayfly("job", "logs", job).out.decode().splitlines()
    record = batch.site.record()
    assert out == ["it's", "#PBS -q $HOME it's $(a)", str(batch.site.work / "runs"), f"dayfly-{record['id']}", "1", "shared"]
    assert batch.dayfly("job", "logs", job, "--errors").out.endswith(b"Read-only file system\nbad\n")
    assert (record["batch"]["name"], record["batch"]["system"]) == ("described", batch.name)
    assert state_of(batch, job) == ("ended", 5)


@pytest.mark.parametrize("last", [3, 4])
def test_tasks_of_an_array(batch: StandIn, last: int) -> None:
    job = submitted(batch, f'array = "3-{last}"', command="echo $DAYFLY_TASK; exit $((DAYFLY_TASK - 3))")
    assert job.removeprefix(f"{batch.name}:") == (batch.job if batch.name == "pbs" and last == 3 else batch.array)
    for task in batch.tasks():
        with batch.start(task) as started:
            started.wait(SECONDS)
    batch.forgets({})
    assert batch.dayfly("job", "wait", job).status == last - 3
    assert batch.dayfly("job", "logs", job).out.decode().split() == ["3", "4"][: last - 2]


def test_where_output_is_said(batch: StandIn) -> None:
    job = submitted(batch, 'output = "../out.txt"', f'errors = "{batch.home}/err.txt"', command="echo out; echo err >&2")
    (task,) = batch.tasks()
    with batch.start(task) as started:
        assert started.wait(SECONDS) == 0
    batch.forgets({})
    assert (batch.site.work / "out.txt").read_text() == "out\n" == batch.dayfly("job", "logs", job).out.decode()
    assert batch.dayfly("job", "logs", job, "--errors").out == b"err\n"


def test_each_task_has_the_file_that_is_named_for_both_its_streams(batch: StandIn) -> None:
    lines = ('array = "3-4"', 'output = "all"', 'errors = "all"')
    job = submitted(batch, *lines, command="echo out $DAYFLY_TASK; echo err >&2; echo more")
    for task in batch.tasks():
        with batch.start(task) as started:
            assert started.wait(SECONDS) == 0
    batch.forgets({})
    assert batch.dayfly("job", "logs", job).out == b"out 3\nerr\nmore\nout 4\nerr\nmore\n"


def test_where_records_cannot_be_seen_the_batch_system_is_asked(batch: StandIn) -> None:
    """The job itself is not run."""
    job = submitted(batch, 'array = "9-11"')
    index = [0, 1, 2] if batch.name == "htcondor" else [9, 10, 11]
    batch.forgets(dict(zip(reversed(index), (7, 4, 0), strict=True)))
    assert batch.dayfly("job", "wait", job).status == 4
    batch.forgets({index[0]: 0})
    assert "its exit status is not known here" in batch.dayfly("job", "wait", job).err


def test_a_job_is_ended(batch: StandIn) -> None:
    """The job itself is not run."""
    job = submitted(batch)
    assert batch.dayfly("job", "cancel", job).status == 0
    assert batch.asked == [batch.job]
    batch.says("", 1)
    told = batch.dayfly("job", "status", job).err
    assert "failed, so the job's state is not known" in told


def test_what_the_batch_system_refuses(batch: StandIn) -> None:
    (batch.site.work / "job.toml").write_text(f'image = "{IMAGE}"\ncommand = ["true"]\n')
    batch.refuses("no queue for that\n")
    done = batch.submit(batch.site.work / "job.toml")
    assert (done.status, done.out) == (125, b"")
    assert f"{batch.name} refused the job: no queue for that" in done.err
    assert "Traceback" not in done.err


def test_what_would_be_given(batch: StandIn) -> None:
    (batch.site.work / "job.toml").write_text(f'image = "{IMAGE}"\ncommand = ["true"]\n')
    done = batch.submit(batch.site.work / "job.toml", "--dry-run")
    assert done.status == 0, done.err
    assert done.out.decode().startswith(("# qsub\n#!/bin/sh\n", "# condor_submit -terse -\nuniverse = vanilla\n"))


def state_of(batch: StandIn, job: str) -> tuple[str, int | None]:
    shown = json.loads(batch.dayfly("job", "status", job, "--json").out)
    return shown["state"], shown["status"]
