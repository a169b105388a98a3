"""The same words for the same refusal, by the hooks of batch systems that cannot run here, and by the job shell under each.

Slurm and Grid Engine, real, say them in tests/batch.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import classad2  # type: ignore[import-untyped]
import pytest
from tests.framework.batch import JobRequest
from tests.framework.installation import SETTINGS
from tests.framework.refusals import REFUSED
from tests.framework.site import COMMAND
from tests.unit.batch.pbs_stand_in import QUEUEJOB, Event, job, run
from tests.unit.image.examples import CONFIG, LAYERS

from dayfly import settings as site
from dayfly.batch.adapters.htcondor import setup as htcondor
from dayfly.batch.adapters.pbs import setup as pbs
from dayfly.image.library import Library
from dayfly.image.reference import LibraryKind, Name


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """The settings that the refusals are about."""
    Library(tmp_path / "library", LibraryKind.SYSTEM).add(CONFIG, LAYERS, Name("debian", "12"))
    path = tmp_path / "settings.toml"
    path.write_text(SETTINGS.format(folder=tmp_path, accelerator="tcg", qemu="qemu-system-x86_64"))
    return path


def said(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize(("wish", "words"), REFUSED)
def test_the_hook_of_pbs(monkeypatch: pytest.MonkeyPatch, settings: Path, tmp_path: Path, wish: JobRequest, words: str) -> None:
    program = tmp_path / "dayfly"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m dayfly "$@"\n')
    program.chmod(0o755)
    rules = site.load(settings, user=site.USER)
    resources = {"vm_image": wish.image, "select": f"1:ncpus=1:mem={wish.memory}mb" if wish.memory else "1:ncpus=1"}
    submitted = job(**resources)
    submitted.queue = wish.queue
    refused = run(monkeypatch, Event(type=QUEUEJOB, job=submitted), pbs.hook(rules, str(program), str(settings)))
    assert words.format(library=tmp_path / "library") in said(refused)


@pytest.mark.parametrize(("wish", "words"), REFUSED)
def test_the_filter_of_torque(settings: Path, tmp_path: Path, wish: JobRequest, words: str) -> None:
    lines = [f"#PBS -l vm_image={wish.image}"] if wish.image else ["#PBS -l vm_network=none"]
    lines += [f"#PBS -l nodes=1:ppn=1,mem={wish.memory}mb"] if wish.memory else []
    command = [
        *COMMAND,
        "batch",
        "filter",
        "torque",
        "--settings",
        str(settings),
        "--",
        *(("-q", wish.queue) if wish.queue else ()),
    ]
    script = "\n".join(["#!/bin/sh", *lines, "true", ""])
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (255, "")
    assert words.format(library=tmp_path / "library") in said(done.stderr)


@pytest.mark.parametrize(("wish", "words"), [one for one in REFUSED if "not allowed" in one[1]])
def test_htcondors_requirement_of_images(settings: Path, wish: JobRequest, words: str) -> None:
    """By the names that no queue allows; the rest depends on the slot, and the host says it."""
    ad = classad2.ClassAd({"VMImage": wish.image})
    assert evaluated("DayflyImage", settings, ad) is False
    assert words in str(evaluated("DayflyImage_REASON", settings, ad))


def test_htcondors_requirement_of_memory(settings: Path) -> None:
    settings.write_text(settings.read_text().replace("[batch]\n", '[batch]\nmemory = "1G"\n'))
    asks = {"VMImage": "debian:12"}
    assert evaluated("DayflyMemory", settings, classad2.ClassAd(asks)) is True
    assert evaluated("DayflyMemory", settings, classad2.ClassAd(asks | {"RequestMemory": 1536})) is True
    assert evaluated("DayflyMemory", settings, classad2.ClassAd({"RequestMemory": 9999})) is True
    ad = classad2.ClassAd(asks | {"RequestMemory": 1537})
    assert evaluated("DayflyMemory", settings, ad) is False
    (words,) = {words for wish, words in REFUSED if wish.memory}
    assert evaluated("DayflyMemory_REASON", settings, ad) == f"dayfly: {words}".replace("of always", "of this pool")


def evaluated(name: str, settings: Path, ad: classad2.ClassAd) -> object:
    lines = htcondor.submit(site.load(settings, user=site.USER)).splitlines()
    (text,) = (line.partition(" = ")[2] for line in lines if line.startswith(f"SUBMIT_REQUIREMENT_{name} ="))
    return classad2.ExprTree(text).eval(ad)


def surroundings(system: str, wish: JobRequest, folder: Path) -> dict[str, str]:
    """The variables of a job, as each batch system says what it was given."""
    if system == "htcondor":
        ad = f"ClusterId = 1\nRequestMemory = {wish.memory}\n" + (f'VMImage = "{wish.image}"\n' if wish.image else "")
        (folder / "job.ad").write_text(ad)
        (folder / "machine.ad").write_text(f'Cpus = 1\nMemory = {wish.memory}\nDayflyQueue = "{wish.queue}"\n')
        return {"_CONDOR_JOB_AD": str(folder / "job.ad"), "_CONDOR_MACHINE_AD": str(folder / "machine.ad")}
    if system == "gridengine":
        return {"JOB_ID": "1", "QUEUE": wish.queue, "DAYFLY_MEMORY": f"{wish.memory}M" if wish.memory else ""}
    queue = {"slurm": "SLURM_JOB_PARTITION", "pbs": "PBS_QUEUE", "torque": "PBS_QUEUE"}[system]
    return {queue: wish.queue, "SLURM_JOB_ID": "1"}


@pytest.mark.parametrize(("wish", "words"), REFUSED)
@pytest.mark.parametrize("system", ["slurm", "gridengine", "pbs", "htcondor", "torque"])
def test_the_job_shell(system: str, settings: Path, tmp_path: Path, wish: JobRequest, words: str) -> None:
    given = [f"settings={settings}", *([f"image={wish.image}"] if wish.image and system != "htcondor" else [])]
    given += [f"memory_mib={wish.memory}"] if wish.memory and system in ("slurm", "pbs") else []
    before = ["prlimit", f"--rss={wish.memory * 1024**2}:"] if wish.memory and system == "torque" else []
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **surroundings(system, wish, tmp_path)}
    command = [*before, *COMMAND, "job-shell", system, *given, "--", "true"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 125, (done.stdout, done.stderr)
    assert words.format(library=tmp_path / "library") in said(done.stderr)
    assert "Traceback" not in done.stderr
