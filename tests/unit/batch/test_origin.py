"""The folder that a job was submitted from, and which of a batch system's folders a machine needs beside the others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dayfly.batch.adapters.pbs import job as pbs
from dayfly.batch.adapters.torque import job as torque
from dayfly.batch.jobshell import shell
from dayfly.batch.jobshell.allocation import Allocation
from dayfly.batch.jobshell.job import BatchJob
from dayfly.batch.jobshell.origin import submitted_from
from dayfly.batch.jobshell.request import Request
from dayfly.job.description import Folder
from dayfly.settings import Settings


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, which is a job's working directory."""
    made = tmp_path / "home"
    made.mkdir()
    monkeypatch.chdir(made)
    return made


def of(path: Path | str) -> tuple[Folder, ...]:
    return submitted_from({b"PBS_O_WORKDIR": os.fsencode(path)})


def shares(*folders: Folder, asked: str = "", settings: Settings | None = None) -> list[Folder]:
    """What a job's machine shares beside the working directory."""
    job = BatchJob("pbs", "", {}, Allocation(1, 1 << 30), folders=folders)
    request = Request(("true",), share=asked)
    return list(shell.description(request, job, "debian:12", {}, settings or Settings()).shares)


def test_a_folder_elsewhere_is_shared(home: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    assert shares(*of(project)) == [Folder(str(project))]
    assert of(f"{project}/../project/.") == (Folder(str(project)),)
    for read in (pbs.read, torque.read):
        variables = {b"PBS_JOBID": b"7.head", b"PBS_O_WORKDIR": bytes(project)}
        assert read(Request(("true",)), variables).folders == (Folder(str(project)),)


def test_a_folder_below_the_working_directory_is_shared_with_it(home: Path) -> None:
    (home / "runs").mkdir()
    assert shares(*of(home / "runs")) == []
    assert shares(*of(home)) == []


def test_through_a_link_in_the_working_directory_it_is_where_that_leads(home: Path, tmp_path: Path) -> None:
    (tmp_path / "scratch/run").mkdir(parents=True)
    (home / "scratch").symlink_to(tmp_path / "scratch")
    assert shares(*of(home / "scratch/run")) == [Folder(str(tmp_path / "scratch/run"))]


def test_another_name_of_the_same_folder_is_shared_by_that_name(home: Path, tmp_path: Path) -> None:
    (home / "runs").mkdir()
    (tmp_path / "automounted").symlink_to(home)
    assert shares(*of(tmp_path / "automounted/runs")) == [Folder(str(tmp_path / "automounted/runs"))]


@pytest.mark.parametrize(
    "path", ["", "relative", "/", "/usr", "/none/such", "/tmp", "/var/tmp", "/dev/null", "/etc/../usr", "/a\0b"]
)
def test_what_is_not_shared(home: Path, path: str) -> None:
    assert of(path) == ()
    assert submitted_from({}) == ()


def test_somebody_elses_folder_is_not_shared(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: (tmp_path / "theirs").stat().st_uid + 1)
    assert of(tmp_path / "theirs") == ()


def test_what_the_job_or_the_site_says_counts(home: Path, tmp_path: Path) -> None:
    for name in ("data/run", "site"):
        (tmp_path / name).mkdir(parents=True)
    run = Folder(str(tmp_path / "data/run"))
    data = Folder(str(tmp_path / "data"))
    assert shares(run, asked=data.path) == [data]
    assert shares(run, asked=f"{run.path}:ro") == [Folder(run.path, readonly=True)], "the job wants it so"
    assert shares(run, asked=f"{data.path}:ro") == [Folder(data.path, readonly=True), run], "below it the job could not write"
    assert shares(run, settings=Settings(batch_shares=(data.path,))) == [data]
    assert shares(Folder(f"{data.path}base")) == [Folder(f"{data.path}base")]
