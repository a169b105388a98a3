"""One description for all batch systems: how it is read, what they get of it, and what their answers mean."""

from __future__ import annotations

import shlex
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.batch.gridengine import submit as gridengine
from dayfly.batch.slurm import submit as slurm
from dayfly.batch.submit.description import _READERS, SubmittedJob, parse, read
from dayfly.batch.submit.rendering import clock
from dayfly.batch.submit.states import State
from dayfly.errors import FileMistakes, NotFound, Refused

WHOLE = b"""
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
array = "1-3"
queue = "long"
account = "physics"
environment = { THREADS = "2", ODD = "a 'b' $c" }
output = "out.txt"
errors = "err.txt"
"""
JOB = SubmittedJob("debian:12", ("true",), "/home/ada")


def test_a_whole_description() -> None:
    job = parse(WHOLE, Path("/home/ada/job.toml"))
    assert job == SubmittedJob(
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
        first=1,
        last=3,
        queue="long",
        account="physics",
        environment={"THREADS": "2", "ODD": "a 'b' $c"},
        output="out.txt",
        errors="err.txt",
    )
    assert {field.name for field in fields(job)} - {"first", "last"} | {"array"} == set(_READERS)


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(
        'imag = "x"\ncommand = []\ncpus = 0\nmemory = "much"\nname = "-x"\narray = "9-1"\nqueue = "a b"\noutput = "a b"\n'
        'network = "all"\nboot = "bios"\nshares = "x"\ntime = "0s"\nenvironment = { "A B" = "1" }\naccount = "$(id)"\n'
    )
    with pytest.raises(FileMistakes) as found:
        read(path)
    assert [mistake.place for mistake in found.value.mistakes] == [
        *("imag", "command", "cpus", "memory", "name", "array", "queue", "output", "network", "boot", "shares", "time"),
        *("environment", "account", "image"),
    ]
    assert "did you mean image?" in str(found.value)
    with pytest.raises(NotFound):
        read(tmp_path / "none.toml")


@pytest.mark.parametrize("text", [b"\xff", b"a = [", b"image = " + b"[" * 100_000])
def test_what_is_no_toml(text: bytes) -> None:
    with pytest.raises(FileMistakes):
        parse(text, Path("/x"))


def test_slurms_words() -> None:
    assert slurm.render(parse(WHOLE, Path("/home/ada/job.toml"))).splitlines() == [
        "#!/bin/sh",
        "#SBATCH --job-name=sim",
        "#SBATCH --chdir=/home/ada/runs",
        "#SBATCH --output=out.txt",
        "#SBATCH --error=err.txt",
        "#SBATCH --vm-image=debian:12",
        "#SBATCH --vm-boot=system",
        "#SBATCH --vm-network=nat",
        "#SBATCH --vm-share=/data:ro",
        "#SBATCH --cpus-per-task=2",
        "#SBATCH --mem=2048M",
        "#SBATCH --time=90",
        "#SBATCH --array=1-3",
        "#SBATCH --partition=long",
        "#SBATCH --account=physics",
        "export THREADS=2",
        "export ODD='a '\"'\"'b'\"'\"' $c'",
        'export DAYFLY_TASK="${SLURM_ARRAY_TASK_ID}"',
        "exec ./simulate.sh --name 'it'\"'\"'s'",
    ]
    assert "#SBATCH --output=job.%j.out" in slurm.render(JOB)


def test_grid_engines_words() -> None:
    lines = gridengine.render(parse(WHOLE, Path("/home/ada/job.toml"))).splitlines()
    assert lines[:20] == [
        "#!/bin/sh",
        "#$ -S /bin/sh",
        "#$ -N sim",
        "#$ -wd /home/ada/runs",
        "#$ -o out.txt",
        "#$ -e err.txt",
        "#$ -pe smp 2",
        "#$ -t 1-3",
        "#$ -q long",
        "#$ -A physics",
        "#$ -l vm_image=debian:12",
        "#$ -l vm_boot=system",
        "#$ -l vm_network=nat",
        "#$ -l vm_share=/data:ro",
        "#$ -l m_mem_free=1024M",
        "#$ -l h_rt=01:30:00",
        "export THREADS=2",
        "export ODD='a '\"'\"'b'\"'\"' $c'",
        'export DAYFLY_TASK="${SGE_TASK_ID}"',
        "exec ./simulate.sh --name 'it'\"'\"'s'",
    ]
    with pytest.raises(Refused, match="takes one folder"):
        gridengine.render(replace(JOB, shares=("/a", "/b")))


def test_times() -> None:
    assert [clock(seconds) for seconds in (0, 61, 3600, 360_000)] == ["00:00:00", "00:01:01", "01:00:00", "100:00:00"]


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1), min_size=1))
def test_a_commands_words_stay_as_they_are(words: list[str]) -> None:
    last = slurm.render(replace(JOB, command=tuple(words))).partition("\nexec ")[2]
    assert shlex.split(last.rstrip("\n") if not words[-1].endswith("\n") else last) == words


def test_numbers() -> None:
    assert (slurm.number("42\n"), slurm.number("42;cluster\n")) == ("42", "42")
    assert (gridengine.number("7\n"), gridengine.number("7.1-3:1\n")) == ("7", "7")
    for system in (slurm, gridengine):
        for answer in ("", "no", "-1", "4 2"):
            with pytest.raises(Refused):
                system.number(answer)


@pytest.mark.parametrize(
    ("answer", "status", "state"),
    [
        ("PENDING Priority\n", 0, State.WAITING),
        ("PENDING JobHeldUser\n", 0, State.HELD),
        ("COMPLETED None\nRUNNING None\nPENDING Resources\n", 0, State.RUNNING),
        ("SUSPENDED None\n", 0, State.SUSPENDED),
        ("COMPLETED None\nFAILED NonZeroExitCode\n", 0, State.ENDED),
        ("", 0, State.ENDED),
        ("RUNNING None", 1, State.ENDED),
    ],
)
def test_what_squeue_says(answer: str, status: int, state: State) -> None:
    assert slurm.state(answer, status, "7") is state


_QSTAT = """\
job-ID  prior   name       user         state submit/start at     queue                          slots ja-task-ID
-----------------------------------------------------------------------------------------------------------------
      7 0.55500 job        ada          {}    11/23/2026 16:11:48 all.q@n1                           1
     17 0.55500 job        ada          qw    11/23/2026 16:11:48                                    1
"""


@pytest.mark.parametrize(
    ("letters", "state"),
    [
        ("qw", State.WAITING),
        ("hqw", State.HELD),
        ("r", State.RUNNING),
        ("Rr", State.RUNNING),
        ("t", State.RUNNING),
        ("dr", State.RUNNING),
        ("s", State.SUSPENDED),
        ("T", State.SUSPENDED),
        ("Eqw", State.FAULTY),
    ],
)
def test_what_qstat_says(letters: str, state: State) -> None:
    assert gridengine.state(_QSTAT.format(letters), 0, "7") is state


def test_what_qstat_does_not_say() -> None:
    assert gridengine.state(_QSTAT.format("r"), 0, "8") is State.ENDED
    assert gridengine.state("", 0, "8") is State.ENDED
    with pytest.raises(Refused):
        gridengine.state("", 1, "8")
