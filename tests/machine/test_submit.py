"""A described job on this host alone: it outlives the command, and is asked for, waited for and ended by its id."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.framework.site import Site, eventually


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state/dayfly"


def submitted(site: Site, text: str) -> str:
    (site.work / "job.toml").write_text(text)
    done = site.dayfly("submit", "--batch", "local", str(site.work / "job.toml"))
    assert done.status == 0, done.err
    return done.out.decode().strip()


def test_tasks_run_one_after_the_other(site: Site) -> None:
    command = '["sh", "-c", "echo $DAYFLY_TASK in $(uname -n); echo bad >&2; exit $((DAYFLY_TASK - 1))"]'
    job = submitted(site, f'image = "debian:12"\ncommand = {command}\narray = "1-3"\nmemory = "256M"\n')
    assert site.dayfly("job", "wait", job).status == 1
    lines = site.dayfly("job", "logs", job).out.decode().split()
    assert lines[::3] == ["1", "2", "3"]
    assert len(set(lines[2::3])) == 3
    assert site.dayfly("job", "logs", job, "--errors").out == b"bad\n" * 3
    assert json.loads(site.dayfly("job", "status", job, "--json").out)["status"] == 1


def test_each_task_has_the_files_that_are_named_and_its_errors_among_its_output(site: Site) -> None:
    command = '["sh", "-c", "echo out $DAYFLY_TASK; echo bad >&2; echo more"]'
    job = submitted(site, f'image = "debian:12"\ncommand = {command}\narray = "2-3"\noutput = "all"\nerrors = "all"\n')
    assert site.dayfly("job", "wait", job).status == 0
    for task in (2, 3):
        assert (site.work / f"all.{task}").read_text().splitlines() == [f"out {task}", "bad", "more"]
    assert site.dayfly("job", "logs", job).out.count(b"out") == 2


def test_a_task_that_could_not_be_started(site: Site) -> None:
    """Its output cannot be made: that is told, and the others run."""
    (site.work / "out.1").mkdir()
    job = submitted(site, 'image = "debian:12"\ncommand = ["echo", "here"]\narray = "1-2"\noutput = "out"\n')
    assert site.dayfly("job", "wait", job).status == 125
    assert json.loads(site.dayfly("job", "status", job, "--json").out)["message"] == f"Is a directory: {site.work}/out.1"
    assert site.dayfly("job", "logs", job).out == b"here\n"


def test_it_is_ended(site: Site, state: Path) -> None:
    job = submitted(site, 'image = "debian:12"\ncommand = ["sh", "-c", "echo up; sleep 100"]\narray = "1-9"\n')
    eventually(lambda: site.dayfly("job", "logs", job).out == b"up\n", 30)
    assert json.loads(site.dayfly("job", "status", job, "--json").out)["state"] == "running"
    assert f"dayfly: {job} is running (cancel it with" in site.dayfly("job", "forget", job).err
    assert site.dayfly("job", "cancel", job).status == 0
    assert site.dayfly("job", "wait", job).status == 143
    assert site.dayfly("job", "logs", job).out == b"up\n", "the other tasks did not begin"
    assert site.dayfly("job", "cancel", job).status == 0, "once more changes nothing"
    assert site.dayfly("job", "forget", job).status == 0
    assert not list((state / "local").iterdir())


def test_its_process_is_killed(site: Site, state: Path) -> None:
    job = submitted(site, 'image = "debian:12"\ncommand = ["sh", "-c", "echo up; sleep 100"]\n')
    eventually(lambda: site.dayfly("job", "logs", job).out == b"up\n", 30)
    os.kill(int((state / "local" / job.removeprefix("local:") / "owner").read_text()), signal.SIGKILL)
    assert site.dayfly("job", "wait", job).status == 137
    eventually(lambda: not site.leftovers())


def test_what_is_said_of_errors(site: Site) -> None:
    def told(text: str, *words: str) -> str:
        (site.work / "job.toml").write_text(text)
        done = site.dayfly("submit", *words, str(site.work / "job.toml"))
        assert done.status == 125
        return str(done.err)

    assert "3 errors" in told("cpu = 1\n", "--batch", "local")
    assert "there is no folder" in told('image = "x"\ncommand = ["y"]\ndirectory = "none"\n', "--batch", "local")
    (site.work / "folder").mkdir()
    wrong = told('image = "x"\ncommand = ["y"]\noutput = "none/out"\nerrors = "folder"\n', "--batch", "local")
    assert "2 errors" in wrong
    assert f"output: there is no folder {site.work}/none" in wrong
    assert f"errors: {site.work}/folder is a folder (give a file)" in wrong
    assert "no job local:00000000 was submitted from here" in site.dayfly("job", "status", "local:00000000").err
