"""HTCondor: ClassAds in files, and what is read of a job."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.batch.adapters.htcondor import classad
from dayfly.batch.adapters.htcondor.job import allocation, asked, read
from dayfly.batch.adapters.htcondor.setup import files, submit
from dayfly.batch.jobshell.allocation import Allocation
from dayfly.batch.jobshell.request import Request
from dayfly.errors import Refused
from dayfly.job.description import Folder
from dayfly.settings import Queue, Settings

MIB = 1024**2
JOB = """\
Args = "-n 4"
AcctGroup = "physics"
ClusterId = 17
Environment = "A=1 B='\\"x\\"'"
JobUniverse = 5
MemoryUsage = ((ResidentSetSize + 1023) / 1024)
NumJobStarts = 1
Owner = "ann"
ProcId = 3
RequestCpus = 2
RequestMemory = 1024
Requirements = (TARGET.Arch == "X86_64")
TransferIn = false
vmimage = "debian:12"
VMShare = "/data,/sw:ro"
"""
SLOT = """\
Cpus = 2
DayflyQueue = "secure"
Machine = "n1.example.org"
Memory = 2048
Name = "slot1_1@n1.example.org"
LoadAvg = 0.25
"""


@pytest.fixture
def variables(tmp_path: Path) -> dict[bytes, bytes]:
    (tmp_path / ".job.ad").write_text(JOB)
    (tmp_path / ".machine.ad").write_text(SLOT)
    return {
        b"_CONDOR_JOB_AD": bytes(tmp_path / ".job.ad"),
        b"_CONDOR_MACHINE_AD": bytes(tmp_path / ".machine.ad"),
        b"_CONDOR_SCRATCH_DIR": bytes(tmp_path),
    }


def test_a_job(variables: dict[bytes, bytes], tmp_path: Path) -> None:
    job = read(Request(("./a.out",), settings="/s"), variables)
    assert job.identity == {
        "job": "17.3",
        "owner": "ann",
        "account": "physics",
        "restarts": "1",
        "queue": "secure",
        "node": "n1.example.org",
        "slot": "slot1_1@n1.example.org",
    }
    assert job.request == Request(("./a.out",), image="debian:12", share="/data,/sw:ro", settings="/s")
    assert (job.queue, job.parallel, job.folders, job.outlives_parent) == ("secure", False, (Folder(str(tmp_path)),), False)
    assert (job.allocation.cpus, job.allocation.memory, job.allocation.own) == (2, 2048 * MIB, True)


def test_without_its_description_a_job_does_not_run(variables: dict[bytes, bytes], tmp_path: Path) -> None:
    with pytest.raises(Refused, match="_CONDOR_JOB_AD"):
        read(Request(("a",)), {})
    (tmp_path / ".machine.ad").unlink()
    with pytest.raises(Refused, match="cannot be read"):
        read(Request(("a",)), variables)
    (tmp_path / ".job.ad").write_bytes(b"#" * (5 * MIB))
    with pytest.raises(Refused, match="larger"):
        read(Request(("a",)), variables)


def test_parallel_universe(variables: dict[bytes, bytes], tmp_path: Path) -> None:
    (tmp_path / ".job.ad").write_text("JobUniverse = 11\n")
    assert read(Request(("a",)), variables).parallel


def test_what_a_job_has() -> None:
    job = classad.parse("RequestCpus = 3\nRequestMemory = 100")
    assert allocation(job, classad.parse("Cpus = 2\nMemory = 512.0"), -1) == Allocation(2, 512 * MIB, own=True)
    assert allocation(job, {}, 5) == Allocation(3, 100 * MIB, own=True, address_space=5)
    assert allocation({}, classad.parse('Cpus = "2"\nMemory = -1'), -1) == Allocation(1, 0, own=True)


def test_a_wish_that_is_an_expression_is_none() -> None:
    job = classad.parse('VMImage = ifThenElse(true, "a:1", "b:1")\nVMBoot = "system"')
    assert asked(Request(("a",)), job) == Request(("a",), boot="system")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('A = "x"\nB=1\nC = -2.5e3\nD = TRUE\nE = False', {"a": "x", "b": 1, "c": -2500.0, "d": True, "e": False}),
        ('A = "say \\"hi\\""', {"a": 'say "hi"'}),
        ('A = "one" == "two"', {}),
        ('A = "open', {}),
        ("A = undefined\nB = x\n= 3\n3A = 4\nA", {}),
        ("A = 1\na = 2", {"a": 2}),
        ("A = 1\nA = B + 1", {}),
        ("A = " + "9" * 40, {}),
        ("A = 1e999", {}),
        (f'A = "{"x" * 70_000}"\nB = 1', {"b": 1}),
        ("\n" * 10_001 + "A = 1", {}),
    ],
)
def test_classads(text: str, values: dict[str, classad.Value]) -> None:
    assert classad.parse(text) == values


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    for value in classad.parse(text).values():
        assert isinstance(value, (str, int, float))
    for name in ("a", "b"):
        assert len(classad.string(classad.parse(text), name)) <= 1024
        assert classad.number(classad.parse(text), name) >= 0


@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True).map(str.lower),
        st.one_of(
            st.integers(-(10**17), 10**17), st.booleans(), st.text(st.characters(codec="utf-8", exclude_characters='\n\\"'))
        ),
        max_size=20,
    )
)
def test_what_htcondor_writes_is_read_back(values: dict[str, int | bool | str]) -> None:
    lines = [
        f'{name} = "{value}"' if isinstance(value, str) else f"{name} = {str(value).lower()}" for name, value in values.items()
    ]
    assert classad.parse("\n".join(lines)) == values


def test_the_files() -> None:
    shown = files(Settings(batch_queues={"secure": Queue("always")}), "/opt/my dayfly", "/etc/s.toml", "/lib/dayfly")
    assert list(shown) == ["wrapper", "50-dayfly.conf", "50-dayfly-submit.conf"]
    assert "'/opt/my dayfly' job-shell htcondor environment=3 settings=/etc/s.toml -- " in shown["wrapper"]
    assert "\nalways=secure\n" in shown["wrapper"]
    assert shown["50-dayfly.conf"] == "# Made by `dayfly batch setup htcondor`.\nUSER_JOB_WRAPPER = /lib/dayfly/wrapper\n"


def test_what_is_refused_when_a_job_is_submitted() -> None:
    settings = Settings(batch_images=("debian:1?", "user/*"), batch_queues={"a": Queue(images=("alma:9.[0-9]",))})
    text = submit(settings)
    patterns = re.findall(r'regexp\("([^"]*)", VMImage\)', text)
    for image, allowed in {
        "debian:12": True,
        "system/debian:12": True,
        "user/mine:1": True,
        "alma:9.4": True,
        "alma:914": False,
        "xdebian:12": False,
        "debian:122": False,
    }.items():
        assert any(re.search(pattern, image) for pattern in patterns) is allowed, image
    assert "SUBMIT_REQUIREMENT_DayflyImage = isUndefined(VMImage)" in text
    assert "SUBMIT_REQUIREMENT" not in submit(Settings(batch_queues={"a": Queue(images=("b",))}))
