"""What is run, where and with which environment, of what the job and the image say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dayfly import principal
from dayfly.errors import Refused
from dayfly.image.library import Library
from dayfly.image.manifest import ImageConfig
from dayfly.image.reference import Name, parse
from dayfly.job.description import JobDescription
from dayfly.job.prepare import Prepared, prepare
from dayfly.job.request import environment
from dayfly.machine.config import Shape
from tests.unit.image.examples import CONFIG, LAYERS

OWN = replace(CONFIG, entrypoint=("/bin/app", "-x"), command=("a", "b c"), directory="/srv/app")
JOB = JobDescription(
    image="app:1", command=(), shape=Shape(1, 256 << 20), scratch=1 << 30, directory="/home", environment=(), terminal=False
)


def prepared(tmp_path: Path, job: JobDescription, config: ImageConfig = OWN) -> Prepared:
    library = Library(tmp_path / "library")
    library.add(config, LAYERS, Name("app", "1"))
    with library.open(parse("app:1")) as image:
        return prepare(job, principal.current(), image, 0.0, print)


def test_without_a_command_the_images_own_runs_in_its_directory(tmp_path: Path) -> None:
    found = prepared(tmp_path, JOB)
    assert (found.command, found.directory) == (("/bin/app", "-x", "a", "b c"), "/srv/app")
    assert [share.target for share in found.shares] == ["/home"]


def test_a_command_is_all_that_runs_where_the_caller_is(tmp_path: Path) -> None:
    found = prepared(tmp_path, replace(JOB, command=("ls", "-l")))
    assert (found.command, found.directory) == (("ls", "-l"), "/home")


def test_a_command_without_a_shared_directory_runs_in_the_images(tmp_path: Path) -> None:
    assert prepared(tmp_path, replace(JOB, command=("ls",), share_directory=False)).directory == "/srv/app"


def test_the_directory_that_is_said_goes_before_all(tmp_path: Path) -> None:
    assert prepared(tmp_path, replace(JOB, workdir="/tmp")).directory == "/tmp"
    assert prepared(tmp_path, replace(JOB, command=("ls",), workdir="/tmp")).directory == "/tmp"


def test_an_image_that_says_no_directory(tmp_path: Path) -> None:
    assert prepared(tmp_path, JOB, replace(OWN, directory="")).directory == "/home"


def test_an_image_without_a_command_of_its_own_needs_one(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no command was given, and app:1 has no command of its own"):
        prepared(tmp_path, JOB, CONFIG)


def test_the_images_variables_are_the_ground_under_the_jobs() -> None:
    job = replace(JOB, environment=(b"A=mine", b"B=\xff"))
    assert set(environment(job, {"A": "image's", "C": "x=y"})) == {b"A=mine", b"B=\xff", b"C=x=y"}


@pytest.mark.parametrize(
    ("own", "of_image", "path"),
    [
        (False, "/opt/bin:/bin", b"/opt/bin:/bin:/usr/bin"),
        (True, "/opt/bin:/bin", b"/usr/bin:/bin"),
        (False, None, b"/usr/bin:/bin"),
        (False, "", b"/usr/bin:/bin"),
    ],
)
def test_the_images_folders_of_programs_come_first(own: bool, of_image: str | None, path: bytes) -> None:
    job = replace(JOB, environment=(b"PATH=/usr/bin:/bin",), own_path=own)
    assert environment(job, {} if of_image is None else {"PATH": of_image}) == (b"PATH=" + path,)
