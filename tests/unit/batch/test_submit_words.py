"""What each batch system gets of a described job: all words of the description, and no way out of them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.batch.adapters.torque.filter import rewrite
from dayfly.batch.submission.description import _NAME, _PATH, _READERS, _WORD, JobSpec
from dayfly.batch.submission.rendering import IN_A_MACHINE, clock, commands, quoted
from dayfly.batch.systems import SYSTEMS
from dayfly.errors import Refused
from tests.framework import directives
from tests.framework.directives import Options
from tests.unit.batch.described import WHOLE

JOB = JobSpec("debian:12", ("true",), "/home/ada")
READ: dict[str, Callable[[str], Options]] = {
    "slurm": directives.of_slurm,
    "gridengine": directives.of_gridengine,
    "pbs": directives.of_pbs,
    "torque": directives.of_pbs,
    "htcondor": directives.of_htcondor,
}
EVERYWHERE = pytest.mark.parametrize("system", sorted(SYSTEMS))


def of(system: str, job: JobSpec) -> str:
    return SYSTEMS[system].render(job)


SHELL = ["export THREADS=2", "export ODD='a '\"'\"'b'\"'\"' $c'"]
QUOTED = IN_A_MACHINE.replace("'", "''").replace("$", "$(DOLLAR)")
RUN = "exec ./simulate.sh --name 'it'\"'\"'s'"


def test_slurms_words() -> None:
    assert of("slurm", WHOLE).splitlines() == [
        "#!/bin/sh",
        "#SBATCH --job-name=sim",
        "#SBATCH --chdir=/home/ada/runs",
        "#SBATCH --output=out.txt.%a",
        "#SBATCH --error=err.txt.%a",
        "#SBATCH --vm-image=debian:12",
        "#SBATCH --vm-boot=system",
        "#SBATCH --vm-network=nat",
        "#SBATCH --vm-share=/data:ro",
        "#SBATCH --cpus-per-task=2",
        "#SBATCH --mem=2048M",
        "#SBATCH --time=90",
        "#SBATCH --array=2-4",
        "#SBATCH --partition=long",
        "#SBATCH --account=physics",
        *SHELL,
        'export DAYFLY_TASK="$SLURM_ARRAY_TASK_ID"',
        RUN,
    ]
    assert "#SBATCH --output=job.%j.out" in of("slurm", JOB)


def test_grid_engines_words() -> None:
    assert of("gridengine", WHOLE).splitlines() == [
        "#!/bin/sh",
        "#$ -S /bin/sh",
        "#$ -N sim",
        "#$ -wd /home/ada/runs",
        "#$ -o out.txt.$TASK_ID",
        "#$ -e err.txt.$TASK_ID",
        "#$ -pe smp 2",
        "#$ -t 2-4",
        "#$ -q long",
        "#$ -A physics",
        "#$ -l vm_image=debian:12",
        "#$ -l vm_boot=system",
        "#$ -l vm_network=nat",
        "#$ -l vm_share=/data:ro",
        "#$ -l m_mem_free=1024M",
        "#$ -l h_rt=01:30:00",
        *SHELL,
        'export DAYFLY_TASK="$SGE_TASK_ID"',
        RUN,
    ]


def test_the_words_of_pbs() -> None:
    assert of("pbs", WHOLE).splitlines() == [
        "#!/bin/sh",
        "#PBS -S /bin/sh",
        "#PBS -N sim",
        "#PBS -o out.txt.^array_index^",
        "#PBS -e err.txt.^array_index^",
        "#PBS -J 2-4",
        "#PBS -q long",
        "#PBS -A physics",
        "#PBS -l select=1:ncpus=2:mem=2048mb",
        "#PBS -l walltime=01:30:00",
        "#PBS -l vm_image=debian:12",
        "#PBS -l vm_boot=system",
        "#PBS -l vm_network=nat",
        "#PBS -l vm_share='\"/home/ada/runs,/data:ro\"'",
        "cd /home/ada/runs || exit",
        *SHELL,
        'export DAYFLY_TASK="$PBS_ARRAY_INDEX"',
        RUN,
    ]
    assert "#PBS -l select=1:ncpus=1\n" in of("pbs", JOB)
    assert "#PBS -l vm_share=/home/ada\n" in of("pbs", JOB)


def test_torques_words() -> None:
    assert of("torque", WHOLE).splitlines() == [
        "#!/bin/sh",
        "#PBS -S /bin/sh",
        "#PBS -N sim",
        "#PBS -d /home/ada/runs",
        "#PBS -o out.txt",
        "#PBS -e err.txt",
        "#PBS -t 2-4",
        "#PBS -q long",
        "#PBS -A physics",
        "#PBS -v DAYFLY_IMAGE=debian:12,DAYFLY_BOOT=system,DAYFLY_NETWORK=nat,DAYFLY_SHARE=/data:ro",
        "#PBS -l nodes=1:ppn=2",
        "#PBS -l mem=2048mb",
        "#PBS -l walltime=01:30:00",
        IN_A_MACHINE,
        *SHELL,
        'export DAYFLY_TASK="$PBS_ARRAYID"',
        RUN,
    ]


def test_htcondors_words() -> None:
    assert of("htcondor", WHOLE).splitlines() == [
        "universe = vanilla",
        "batch_name = sim",
        "initialdir = /home/ada/runs",
        "should_transfer_files = NO",
        "DayflyTask = $(Process) + 2",
        "executable = /bin/sh",
        f"arguments = \"-c '{QUOTED}; export THREADS=2; export ODD=''a ''\"\"''\"\"''b''\"\"''\"\"'' $(DOLLAR)c'';"
        " export DAYFLY_TASK=\"\"$(DOLLAR)1\"\"; exec ./simulate.sh --name ''it''\"\"''\"\"''s''' sim $INT(DayflyTask)\"",
        "output = out.txt.$INT(DayflyTask)",
        "error = err.txt.$INT(DayflyTask)",
        '+VMImage = "debian:12"',
        '+VMBoot = "system"',
        '+VMNetwork = "nat"',
        '+VMShare = "/data:ro"',
        "request_cpus = 2",
        "request_memory = 2048",
        'requirements = TARGET.DayflyQueue == "long"',
        "accounting_group = physics",
        "periodic_remove = JobStatus == 2 && time() - JobCurrentStartDate > 5400",
        "queue 3",
    ]
    lines = of("htcondor", JOB).splitlines()
    assert "output = job.$(Cluster).out" in lines
    assert f"arguments = \"-c '{QUOTED}; exec true'\"" in lines
    assert "arguments = \"-c 'exec true'\"" in of("htcondor", replace(JOB, image="none")), "which wants no machine"
    assert IN_A_MACHINE not in of("torque", replace(JOB, image="none"))
    assert "error = sim.$(Cluster).$INT(DayflyTask).err\n" in of("htcondor", replace(WHOLE, errors=""))


_NAMES = {"array": ("first", "last")}


@EVERYWHERE
@pytest.mark.parametrize("word", sorted(_READERS))
def test_every_word_of_the_description_is_said(system: str, word: str) -> None:
    without = {"image": "other:1", "command": ("false",), "directory": "/other"}
    default = JobSpec("", (), "")
    changed = {name: without.get(name, getattr(default, name)) for name in _NAMES.get(word, (word,))}
    assert of(system, WHOLE) != of(system, replace(WHOLE, **changed))


@EVERYWHERE
def test_several_folders_to_share(system: str) -> None:
    job = replace(JOB, shares=("/a", "/b:ro"))
    if system in ("gridengine", "torque"):
        with pytest.raises(Refused, match="supports only one shared folder"):
            of(system, job)
    else:
        assert "/a,/b:ro" in of(system, job)


@EVERYWHERE
@pytest.mark.parametrize("folder", ["/my data", "/a\n#PBS -l x", '/a"b', "/a,b", "/a$(b)", "/ä"])
def test_folders_that_no_option_could_have(system: str, folder: str) -> None:
    for job in (replace(JOB, directory=folder), replace(JOB, shares=(f"{folder}:ro",))):
        with pytest.raises(Refused, match=r"not a path that every batch system accepts|not a line of text"):
            of(system, job)


@EVERYWHERE
def test_an_array_of_one_task_counts_as_the_description_does(system: str) -> None:
    job = replace(WHOLE, first=7, last=7, environment={})
    text = of(system, job)
    said = dict(READ[system](text))
    expected = {
        "slurm": ("--array", "7-7"),
        "gridengine": ("-t", "7-7"),
        "torque": ("-t", "7"),
        "htcondor": ("DayflyTask", "$(Process) + 7"),
    }
    if system == "pbs":  # which refuses -J 7-7
        assert "-J" not in said
        assert 'export DAYFLY_TASK="7"' in text
        assert said["-o"] == "out.txt.7"
        assert SYSTEMS["pbs"].adapter.outputs(replace(job, output="", errors=""), "42.head") == ("sim.o42", "sim.e42")
    else:
        name, value = expected[system]
        assert said[name] == value


def test_where_output_goes() -> None:
    array = replace(JOB, first=1, last=2)
    named = {name: system.adapter.outputs for name, system in SYSTEMS.items()}
    for name in ("slurm", "gridengine", "htcondor"):
        assert named[name](JOB, "42") == ("job.42.out", "job.42.err")
        assert named[name](array, "42") == ("job.42.{task}.out", "job.42.{task}.err")
    assert named["pbs"](JOB, "42.head.example.org") == ("job.o42", "job.e42")
    assert named["pbs"](array, "42[].head") == ("job.o42.{task}", "job.e42.{task}")
    assert named["torque"](JOB, "42.head") == ("job.o42", "job.e42")
    assert named["torque"](array, "42[].head") == ("job.o42-{task}", "job.e42-{task}")
    for function in named.values():
        assert function(replace(JOB, output="o", errors="e"), "42") == ("o", "e")
    given_names = replace(array, output="o", errors="e")
    for name, function in named.items():
        expected = ("o-{task}", "e-{task}") if name == "torque" else ("o.{task}", "e.{task}")  # Torque's own way, for any name
        assert function(given_names, "42") == expected


@EVERYWHERE
def test_errors_go_where_output_goes(system: str) -> None:
    said = dict(READ[system](of(system, replace(JOB, output="all", errors="all"))))
    expected = {
        "slurm": {"--output": "all", "--error": "all"},
        "htcondor": {"output": "all", "error": "all"},
        "gridengine": {"-o": "all", "-j": "y"},
        "pbs": {"-o": "all", "-j": "oe"},
        "torque": {"-o": "all", "-j": "oe"},
    }
    assert {name: value for name, value in said.items() if value in ("all", "y", "oe")} == expected[system]
    assert ("exec 2>&1; exec true" in said.get("arguments", "")) == (system == "htcondor")


def test_times() -> None:
    assert [clock(seconds) for seconds in (0, 61, 3600, 360_000)] == ["00:00:00", "00:01:01", "01:00:00", "100:00:00"]


TEXT = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40),
    st.lists(
        st.sampled_from(
            [
                "\n",
                "\n#PBS -l x=1",
                "\n#SBATCH --x",
                "\n#$ -l x",
                "\nqueue 9",
                "'",
                '"',
                "\\",
                "$",
                "$(",
                "$$(",
                "`",
                " ",
                "é",
                "@x",
                "\r\n",
            ]
        )
    ).map("".join),
)
WORDS = st.lists(TEXT, min_size=1, max_size=4).map(tuple).filter(lambda words: words[0] != "")
ENVIRONMENT = st.dictionaries(st.from_regex(re.compile(r"[A-Z_]{1,8}"), fullmatch=True), TEXT, max_size=3)


def matching(pattern: re.Pattern[str], *, empty: bool = True) -> st.SearchStrategy[str]:
    texts = st.from_regex(pattern, fullmatch=True).filter(str.isascii)
    return st.one_of(st.just(""), texts) if empty else texts


JOBS = st.builds(
    JobSpec,
    image=st.just("user/debian:12"),
    command=WORDS,
    directory=matching(_PATH, empty=False),
    name=matching(_NAME, empty=False),
    cpus=st.integers(1, 1024),
    memory=st.integers(0, 1 << 45),
    time=st.integers(0, (1 << 31) - 1),
    shares=st.lists(matching(_PATH, empty=False).map("{}:ro".format), max_size=1).map(tuple),
    network=st.sampled_from(["", "none", "nat"]),
    boot=st.sampled_from(["", "agent", "system"]),
    first=st.just(3),
    last=st.sampled_from([3, 9]),
    queue=matching(_WORD),
    account=matching(_WORD),
    environment=ENVIRONMENT,
    output=matching(_PATH),
    errors=matching(_PATH),
)


@EVERYWHERE
@given(JOBS)
def test_nothing_gets_out_of_its_place(system: str, job: JobSpec) -> None:
    said = READ[system](of(system, job))
    tame = READ[system](of(system, replace(job, command=("true",), environment={})))
    assert [name for name, _ in said] == [name for name, _ in tame]
    assert [pair for pair in said if pair[0] != "arguments"] == [pair for pair in tame if pair[0] != "arguments"]
    options = dict(pair for pair in said if pair[0] != "-l")
    for name, value in (("queue", job.queue), ("account", job.account)):
        assert not value or any(value in text for text in options.values()), name


@given(JOBS)
def test_torques_filter_leaves_the_script_as_it_is(job: JobSpec) -> None:
    script = of("torque", job)
    filtered = rewrite(script, [])
    assert filtered.script == script
    assert (filtered.request.image, filtered.request.share) == (job.image, ",".join(job.shares))
    assert (filtered.request.network, filtered.request.boot) == (job.network, job.boot)
    assert filtered.queue == job.queue.partition("@")[0]


@given(WORDS, ENVIRONMENT)
def test_a_shell_gets_words_and_variables_as_they_are(words: tuple[str, ...], environment: dict[str, str]) -> None:
    *set_, run = commands(replace(JOB, command=words, environment=environment), "")
    assert shlex.split(run) == ["exec", *words]
    assert [shlex.split(line) for line in set_] == [["export", f"{name}={value}"] for name, value in environment.items()]


@given(TEXT)
def test_no_line_of_a_word_but_the_first_begins_with_its_text(text: str) -> None:
    assert all(line.startswith("''") for line in quoted(text).split("\n")[1:])
