"""One description for all batch systems: how it is read, and strictly."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from dayfly.batch.submission.description import _READERS, parse, read
from dayfly.errors import FileErrors, NotFound
from tests.unit.batch.described import WHOLE

TEXT = b"""
image = "debian:12"
command = ["./simulate.sh", "--name", "it's"]
name = "sim"
cpus = 2
memory = "2G"
time = "90m"
directory = "runs"
shares = ["/data:ro"]
network = "nat"
boot = "system"
array = "2-4"
queue = "long"
account = "physics"
environment = { THREADS = "2", ODD = "a 'b' $c" }
output = "out.txt"
errors = "err.txt"
"""


def test_a_whole_description() -> None:
    job = parse(TEXT, Path("/home/ada/job.toml"))
    assert job == WHOLE
    assert {field.name for field in fields(job)} - {"first", "last"} | {"array"} == set(_READERS)


def test_all_errors_at_once(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(
        'imag = "x"\ncommand = []\ncpus = 0\nmemory = "much"\nname = "-x"\narray = "9-1"\nqueue = "a b"\noutput = "a b"\n'
        'network = "all"\nboot = "bios"\nshares = "x"\ntime = "0s"\nenvironment = { "A B" = "1" }\naccount = "$(id)"\n'
    )
    with pytest.raises(FileErrors) as found:
        read(path)
    assert [error.place for error in found.value.errors] == [
        *("imag", "command", "cpus", "memory", "name", "array", "queue", "output", "network", "boot", "shares", "time"),
        *("environment", "account", "image"),
    ]
    assert "did you mean image?" in str(found.value)
    with pytest.raises(NotFound):
        read(tmp_path / "none.toml")


@pytest.mark.parametrize("text", [b"\xff", b"a = [", b"image = " + b"[" * 100_000])
def test_what_is_no_toml(text: bytes) -> None:
    with pytest.raises(FileErrors):
        parse(text, Path("/x"))
