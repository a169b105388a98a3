"""Torque: the submit filter, and what is read of a job."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.batch.adapters.torque.filter import rewrite
from dayfly.batch.adapters.torque.job import allocation, read
from dayfly.batch.adapters.torque.setup import files
from dayfly.batch.jobshell.allocation import Allocation
from dayfly.batch.jobshell.request import Request
from dayfly.batch.jobshell.script import named
from dayfly.errors import Refused
from dayfly.job.description import Folder
from dayfly.settings import Queue, Settings

MIB = 1024**2


def test_wishes_become_variables() -> None:
    script = "#!/bin/sh\n#PBS -N sim\n#PBS -l vm_image=debian:12,walltime=1:00:00\n#PBS -l vm_share=/data\necho\n"
    filtered = rewrite(script, ["-q", "short@head", "job.sh"])
    assert filtered.script == (
        "#!/bin/sh\n#PBS -v DAYFLY_IMAGE=debian:12,DAYFLY_SHARE=/data\n#PBS -N sim\n#PBS -l walltime=1:00:00\necho\n"
    )
    assert filtered.request == Request(("job",), image="debian:12", share="/data")
    assert filtered.queue == "short"


def test_the_scripts_own_variables_stay_since_the_last_line_of_them_counts() -> None:
    script = "#PBS -v A=1\n#PBS -v B=2,C\n#PBS -l vm_image=debian:12\n#PBS -q long\n"
    filtered = rewrite(script, [])
    assert filtered.script == "#PBS -v B=2,C,DAYFLY_IMAGE=debian:12\n#PBS -q long\n"
    assert filtered.queue == "long"


@pytest.mark.parametrize(
    "script",
    [
        "",
        "echo\n#PBS -l vm_image=debian:12\n",  # behind the first command it is no directive
        "#!/bin/sh\n#PBS -l nodes=1:ppn=2 -v A=1\n\n# words\necho vm_image=1",
        "#PBS -l vm_image\n",
        "#PBS -l 'open\n",
        "# PBS -l vm_image=a:1\n",
    ],
)
def test_other_scripts_stay_as_they_are(script: str) -> None:
    filtered = rewrite(script, ["-l", "nodes=1", "-N", "x"])
    assert filtered.script == script
    assert not filtered.request.asks


def test_variables_on_the_command_line() -> None:
    filtered = rewrite("echo\n", ["-v", "A=1,DAYFLY_IMAGE=debian:12,DAYFLY_BOOT=system", "-q", "a"])
    assert filtered.request == Request(("job",), image="debian:12", boot="system")
    assert rewrite("#PBS -v DAYFLY_NETWORK=nat\n", []).request.network == "nat"


@pytest.mark.parametrize(
    ("script", "arguments", "why"),
    [
        ("echo\n", ["-l", "vm_image=debian:12"], "vm_image on qsub's command line"),
        ("#PBS -l vm_image=debian:12\n", ["-v", "A=1"], "add DAYFLY_IMAGE=debian:12 to -v"),
        ("#PBS -l vm_image=debian:12 -N x\n", [], "several options"),
        ("#PBS -l vm_share=/a,/b\n", [], "one folder"),
    ],
)
def test_where_nothing_can_be_made_of_it(script: str, arguments: list[str], why: str) -> None:
    with pytest.raises(Refused, match=why):
        rewrite(script, arguments)


@pytest.mark.parametrize(
    ("resources", "memory", "maps"),
    [
        ("mem=64mb", 64, 0),
        ("mem=2gb,pmem=512mb", 512, 0),
        ("mem=1kb", 1, 0),
        ("vmem=700mb", 0, 700),
        ("pvmem=600mb,vmem=700mb", 0, 600),
        ("mem=x,walltime=1:00", 0, 0),
    ],
)
def test_the_memory_that_is_asked_for(resources: str, memory: int, maps: int) -> None:
    for filtered in (rewrite("echo\n", ["-l", resources]), rewrite(f"#PBS -l {resources}\n", [])):
        assert (filtered.request.memory_mib, filtered.request.address_space_mib) == (memory, maps)


def test_another_prefix_of_directives() -> None:
    filtered = rewrite("#QSUB -l vm_image=a:1\n#PBS -l vm_image=b:1\n", ["-C", "#QSUB"])
    assert filtered.request.image == "a:1"


@given(st.text(), st.lists(st.text(max_size=20), max_size=4))
def test_any_script(text: str, arguments: list[str]) -> None:
    try:
        filtered = rewrite(text, arguments)
    except Refused:
        return
    assert filtered.script == text or "DAYFLY_" in filtered.script


VARIABLES = {
    b"PBS_JOBID": b"12-3.head",
    b"PBS_ARRAYID": b"3",
    b"PBS_JOBNAME": b"sim",
    b"PBS_QUEUE": b"short",
    b"PBS_NUM_NODES": b"1",
    b"PBS_NUM_PPN": b"2",
    b"PBS_ENVIRONMENT": b"PBS_BATCH",
}


def test_who_a_job_is(tmp_path: Path) -> None:
    made = tmp_path / "12-3.head"
    made.mkdir()
    job = read(Request(("/bin/bash",)), {**VARIABLES, b"TMPDIR": bytes(made)})
    assert {name: job.identity[name] for name in ("job", "array_task", "name", "queue")} == {
        "job": "12-3.head",
        "array_task": "3",
        "name": "sim",
        "queue": "short",
    }
    assert (job.parallel, job.script_by_name, job.outlives_parent) == (False, True, True)
    assert [folder.path for folder in job.folders] == [str(made)]
    assert read(Request(("a",)), {**VARIABLES, b"PBS_NUM_NODES": b"2", b"TMPDIR": b"/tmp"}).parallel


def test_the_file_that_names_a_jobs_hosts_is_there(tmp_path: Path) -> None:
    (tmp_path / "12-3.head").write_text("n1\n")
    job = read(Request(("a",)), {**VARIABLES, b"PBS_NODEFILE": bytes(tmp_path / "12-3.head")})
    assert job.folders == (Folder(str(tmp_path), readonly=True),)


def test_what_a_job_has() -> None:
    assert allocation(VARIABLES, [-1, -1], -1) == Allocation(2, 0, own=True)
    assert allocation(VARIABLES, [800 * MIB, 700 * MIB], 900 * MIB) == Allocation(2, 700 * MIB, own=True, address_space=900 * MIB)


def test_the_files() -> None:
    settings = Settings(batch_queues={"secure": Queue("always")}, records_folder=Path("/shared/{user}/records"))
    shown = files(settings, "/opt/dayfly", "/etc/s.toml", "/lib/dayfly")
    assert list(shown) == ["starter", "qsub_filter", "prologue", "mom_priv/config", "torque.cfg"]
    assert "/opt/dayfly job-shell torque environment=3 settings=/etc/s.toml " in shown["starter"]
    assert "exec /opt/dayfly batch filter torque --settings /etc/s.toml -- " in shown["qsub_filter"]
    assert 'for folder in /shared/"$user"; do' in shown["prologue"]
    assert shown["mom_priv/config"] == "$job_starter /lib/dayfly/starter\n"
    assert "prologue" not in files(Settings(), "/opt/dayfly", "", "/lib/dayfly")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"/var/spool/pbs/mom_priv/jobs/1.head.SC\n", ("", "/var/spool/pbs/mom_priv/jobs/1.head.SC")),
        (b"/pbs/mom_priv/jobs/12\\[3\\].head.SC\n", ("", "/pbs/mom_priv/jobs/12[3].head.SC")),
        (
            b"cd /home/a;b/pbs.1.head.x8z;/pbs/mom_priv/jobs/1.head.SC\n",
            ("/home/a;b/pbs.1.head.x8z", "/pbs/mom_priv/jobs/1.head.SC"),
        ),
        (b"/var/spool/torque/mom_priv/jobs/1.head.SC", ("", "")),
        (b"/var/spool/pbs/mom_priv/jobs/1.head.SC\necho\n", ("", "")),
        (b"/etc/passwd\n", ("", "")),
        (b"cd /tmp;/etc/passwd\n", ("", "")),
        (b"cd /tmp\n", ("", "")),
        (b"mom_priv/jobs/1.SC\n", ("", "")),
        (b"/a/mom_priv/jobs/\0.SC\n", ("", "")),
        (b"cd /\0;/a/mom_priv/jobs/1.SC\n", ("", "")),
        (b"", ("", "")),
    ],
)
def test_the_name_of_a_script(content: bytes, told: tuple[str, str]) -> None:
    assert named(content) == told
