"""Templates: made once for all who want them, found by everything that makes them, noticed when they are not what they were."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dayfly.image.library import Library, Source
from dayfly.image.reference import parse
from dayfly.machine.processes import running
from dayfly.provision.templates.key import Key
from dayfly.provision.templates.store import Kind, Store, Unusable
from tests.framework.site import IMAGE, Site, eventually, kill, moments
from tests.framework.templates import folder_of, lend_template, listed, refingerprint, start_of
from tests.machine.test_faults import in_small_disk, works

# Made, found, made again


def test_the_first_job_makes_it_and_the_next_uses_it(site: Site, own_templates: Path) -> None:
    for _ in range(2):
        works(site)
        assert start_of(site) == ("template", "")
    (template,) = listed(site)
    assert template["name"] == site.record()["machine"]["template"]
    assert template["state"] == "ready"
    shown = json.loads(site.dayfly("template", "show", template["name"], "--json").out)
    assert shown["state"] == "ready"
    assert {path.stat().st_mode & 0o777 for path in own_templates.rglob("*") if path.is_file()} == {0o600}
    assert folder_of(own_templates).stat().st_mode & 0o777 == 0o700


def test_cold_is_cold(site: Site, own_templates: Path) -> None:
    finished = site.run("echo", "fine", options=("--cold",))
    assert (finished.status, finished.out) == (0, b"fine\n")
    assert start_of(site) == ("cold", "requested")
    assert listed(site) == []
    assert not own_templates.exists()


@pytest.mark.parametrize(
    "option", [("--memory", "300M"), ("--cpus", "2"), ("--scratch", "2G"), ("--network", "nat"), ("--no-share",)], ids="-".join
)
def test_another_machine_has_another_template(site: Site, option: tuple[str, ...]) -> None:
    works(site)
    one = site.record()["machine"]["template"]
    finished = site.run("echo", "fine", options=option, before=site.networked if "nat" in option else [])
    assert (finished.status, finished.out) == (0, b"fine\n")
    other = site.record()["machine"]
    assert (other["start"], other["template"] != one) == ("template", True)


def test_an_image_that_was_rebuilt_under_its_name(site: Site, own_templates: Path, own_library: Library) -> None:
    lend_template(site, own_templates)
    site.configure(library_user=str(own_library.layout.folder))
    works(site)
    old = site.record()
    relabelled(own_library)
    works(site)
    new = site.record()
    assert new["image"]["digest"] != old["image"]["digest"]
    assert new["machine"]["start"] == "template"
    assert new["machine"]["template"] != old["machine"]["template"]
    states = {template["name"]: template["state"] for template in listed(site)}
    assert states[new["machine"]["template"]] == "ready"
    site.dayfly("image", "remove", f"user/{old['image']['digest']}")
    collected = json.loads(site.dayfly("template", "gc", "--json").out)
    assert collected["removed"] == [old["machine"]["template"]]
    assert [path.name for path in own_templates.iterdir()] == [new["machine"]["template"]]


def relabelled(library: Library) -> None:
    """Give debian:12 to an image with the same layers and another config, as a rebuild would."""
    _, manifest, config = library.inspect(parse("debian:12"))
    layers = {layer.role: Source(layer.form, library.layout.blob(layer.digest)) for layer in manifest.layers if layer.role}
    library.add(replace(config, labels={"built": "again"}), layers, parse("debian:12").name)


def test_an_upgraded_qemu(site: Site, own_templates: Path) -> None:
    lend_template(site, own_templates)
    works(site)
    qemu = site.work / "qemu"
    real = shutil.which(os.environ.get("DAYFLY_TEST_QEMU", "qemu-system-x86_64"))
    assert real
    before = site.record()["machine"]["template"]
    qemu.write_text(f'#!/bin/sh\nexec {real} "$@"\n')
    qemu.chmod(0o755)
    site.configure(machine_qemu=str(qemu))
    works(site)
    between = site.record()["machine"]["template"]
    os.utime(qemu, (1, 1))
    works(site)
    after = site.record()["machine"]["template"]
    assert len({before, between, after}) == 3
    assert [template["state"] for template in listed(site)].count("ready") == 1
    site.configure()


def test_those_who_want_the_same_at_once_make_it_once(site: Site, own_templates: Path) -> None:
    begun = time.time()
    jobs = [site.start("run", IMAGE, "--", "echo", "fine") for _ in range(4)]
    for job in jobs:
        out, err = job.communicate(timeout=120)
        assert (job.returncode, out, err) == (0, b"fine\n", b"")
    assert {record["machine"]["start"] for record in site.records()} == {"template"}
    assert len({record["machine"]["template"] for record in site.records()}) == 1
    made = folder_of(own_templates) / "template.json"
    assert begun < made.stat().st_mtime
    assert min(record["phases"]["spawned"] for record in site.records()) > 0.5  # all of them waited for it


PARTS = ("memory", "state", "scratch", "template.json")
DAMAGES = ("removed", "truncated", "changed", "a link")


def damage(path: Path, how: str, elsewhere: Path) -> None:
    """Do this to a file of a template."""
    if how == "removed":
        path.unlink()
    elif how == "truncated":
        os.truncate(path, path.stat().st_size // 2)
    elif how == "changed":
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 3)
            file.write(b"changed")
    else:
        path.rename(elsewhere)
        path.symlink_to(elsewhere)


def test_a_damaged_one_is_noticed(site: Site, own_templates: Path) -> None:
    """Whichever part it is, and whatever was done to it, by what opens a job's template. An unfinished one is none."""
    lent = lend_template(site, own_templates)
    key = Key(json.loads((lent / "template.json").read_text())["facts"], lent.name)
    store = Store(own_templates, Kind.USER)
    for part, how in itertools.product(PARTS, DAMAGES):
        shutil.rmtree(lent)
        lend_template(site, own_templates)
        found = store.find(key)
        assert found is not None
        found.close()
        damage(lent / part, how, site.work / f"{part}-{how}")
        if (part, how) == ("template.json", "removed"):
            assert store.find(key) is None
        else:
            with pytest.raises(Unusable):
                store.find(key)


@pytest.mark.parametrize(("part", "how"), list(zip(PARTS, DAMAGES, strict=True)))
def test_a_damaged_one_is_made_again(site: Site, own_templates: Path, part: str, how: str) -> None:
    lent = lend_template(site, own_templates)
    works(site)
    assert site.record()["phases"]["spawned"] < 1.5  # the copy was used
    damage(lent / part, how, site.work / "elsewhere")
    works(site)
    assert start_of(site) == ("template", "")
    (template,) = listed(site)
    assert template["state"] == "ready"
    assert site.dayfly("template", "show", template["name"]).out.count(b"ready") == 1


def test_one_that_cannot_be_restored(site: Site, own_templates: Path) -> None:
    """Its fingerprints are right and its state is not: QEMU says so, the job boots, and the next one has a template again."""
    lend_template(site, own_templates)
    with (folder_of(own_templates) / "state").open("r+b") as file:
        file.write(b"no migration stream")
    refingerprint(folder_of(own_templates))
    works(site)
    start, reason = start_of(site)
    assert start == "cold"
    assert "QEMU ended while it restored the template" in reason
    assert listed(site) == []
    works(site)
    assert "QEMU ended" in start_of(site)[1]  # noted: not every job tries again
    assert site.dayfly("template", "build", IMAGE).status == 0
    works(site)
    assert start_of(site) == ("template", "")


# Room for them


def test_no_room_for_it(site: Site) -> None:
    (site.work / "small").mkdir()
    site.configure(templates_user=str(site.work / "small"))
    finished = site.run("echo", "out", before=in_small_disk("40M"), extra={"SMALL": str(site.work / "small")})
    assert (finished.status, finished.out, finished.err) == (0, b"out\n", "")
    start, reason = start_of(site)
    assert (start, "no space for a template" in reason) == ("cold", True)


def test_a_folder_that_cannot_be_written_to(site: Site) -> None:
    (site.work / "file").write_text("")
    site.configure(templates_user=str(site.work / "file"))
    works(site)
    assert start_of(site)[0] == "cold"


def test_none_are_made_with_a_limit_of_zero(site: Site, own_templates: Path) -> None:
    site.configure(templates_limit="0")
    works(site)
    assert start_of(site) == ("cold", "templates.limit of the settings is 0")
    assert not own_templates.exists()


def test_the_least_recently_used_goes_first(site: Site, own_templates: Path) -> None:
    names = []
    for memory in ("200M", "210M", "220M"):
        assert site.run("true", options=("--memory", memory)).status == 0
        names.append(site.record()["machine"]["template"])
    assert site.run("true", options=("--memory", "200M")).status == 0  # the first is used again
    sizes = [template["size"] for template in listed(site)]
    site.configure(templates_limit=str(sum(sizes) - 1))
    collected = json.loads(site.dayfly("template", "gc", "--json").out)
    assert collected["removed"] == [names[1]]
    site.configure(templates_limit=str(max(sizes) + 1))
    assert site.run("true", options=("--memory", "230M")).status == 0
    assert [template["name"] for template in listed(site)] == [site.record()["machine"]["template"]]


def test_the_doctor_sees_a_folder_that_is_not_used(site: Site, own_templates: Path) -> None:
    def health() -> tuple[str, str]:
        findings = json.loads(site.dayfly("doctor", "--json").out)
        (found,) = (finding for finding in findings if finding["check"] == "templates")
        return found["health"], found["found"]

    assert health()[0] == "ok"
    own_templates.mkdir(parents=True)
    own_templates.chmod(0o777)
    assert health() == ("warning", f"{own_templates} is writable by users other than its owner")
    works(site)
    start, reason = start_of(site)
    assert start == "cold"
    assert "is writable by users other" in reason


# Killed, and removed


@pytest.mark.parametrize("victim", ["dayfly", "qemu"])
@pytest.mark.timeout(900)
def test_killed_while_it_is_made(site: Site, own_templates: Path, victim: str, rounds: int) -> None:
    """kill -9 at random moments from the first instruction to the save: no half of it is left, or it is noticed."""
    for moment in moments(rounds, 4):
        shutil.rmtree(own_templates, ignore_errors=True)
        with site.start("run", IMAGE, "--", "echo", "fine") as process:
            time.sleep(moment)
            machines = [machine.pid for machine in running() if machine.owner == process.pid]
            if victim == "qemu":
                for pid in machines:
                    kill(pid)
            else:
                process.kill()
            out, err = process.communicate(timeout=60)
        if victim == "qemu":
            assert (process.returncode, out) == (0, b"fine\n") or b"killed by signal 9" in err, err
        for pid in machines:
            eventually(lambda pid=pid: pid not in {machine.pid for machine in running()})
        assert site.leftovers() == []
        assert {path.name for path in own_templates.rglob("*") if path.is_file()} in (
            set(),
            {"memory"},
            {"memory", "state"},
            {"memory", "state", "scratch"},
            {"memory", "state", "scratch", "template.json"},
        )
    works(site)
    assert start_of(site) == ("template", "")
    assert len(listed(site)) == 1
    assert len(list(own_templates.iterdir())) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_end_while_it_is_made(site: Site, own_templates: Path, number: signal.Signals) -> None:
    """Who makes it, at moments from the boot to the job, and who waits for it: each is told and written down as cancelled."""
    for moment in (0, 0.5, 1, 1.5, 2, 2.5):
        with site.start("run", IMAGE, "--", "sleep", "60") as maker:
            site.machine_of(maker)
            with site.start("run", IMAGE, "--", "true") as waiter:
                eventually(lambda pid=waiter.pid: waits_for_a_lock(pid))
                waiter.send_signal(number)
                said = f"dayfly: ended by {number.name} before the job started\n"
                assert waiter.communicate(timeout=10) == (b"", said.encode())
            assert waiter.returncode == 128 + number
            time.sleep(moment)
            maker.send_signal(number)
            assert maker.wait(10) == 128 + number
        assert site.leftovers() == []
        assert all((folder / "template.json").exists() for folder in own_templates.iterdir())
        shutil.rmtree(own_templates)
    assert [record["end"]["reason"] for record in site.records()] == ["cancelled"] * 12


def waits_for_a_lock(pid: int) -> bool:
    return any("-> FLOCK" in line and f" {pid} " in line for line in Path("/proc/locks").read_text().splitlines())


@pytest.mark.timeout(300)
def test_removed_while_it_is_cloned(site: Site, own_templates: Path, rounds: int) -> None:
    lend_template(site, own_templates)
    with site.start(
        "run",
        IMAGE,
        "--",
        "sh",
        "-c",
        "echo up; read -r line; dd if=/dev/urandom of=/dev/shm/x bs=1M count=50; cat /etc/os-release | md5sum",
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        assert site.dayfly("template", "remove", folder_of(own_templates).name).status == 0
        assert list(own_templates.iterdir()) == []
        out, err = process.communicate(b"\n", timeout=60)
        assert process.returncode == 0, err
        assert out.endswith(b"  -\n")
    for moment in moments(rounds, 0.4):
        with site.start("run", IMAGE, "--", "echo", "fine") as process:
            time.sleep(moment)
            for template in listed(site):
                site.dayfly("template", "remove", template["name"])
            assert process.communicate(timeout=60) == (b"fine\n", b"")
            assert process.returncode == 0


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("at_once", [1, 8])
def test_hundreds_of_jobs_leave_nothing(site: Site, at_once: int) -> None:
    """500 jobs: none fails, and there are no more processes, files or kernel objects afterwards than before."""
    works(site)
    before = held()
    left = 500
    while left:
        jobs = [site.start("run", IMAGE, "--", "echo", "fine") for _ in range(min(at_once, left))]
        for job in jobs:
            assert job.communicate(timeout=120) == (b"fine\n", b"")
            assert job.returncode == 0
        left -= len(jobs)
    assert site.leftovers() == []
    eventually(lambda: all(now <= then for now, then in zip(held(), before, strict=True)))


def held() -> tuple[int, int, int]:
    """Our children, our open files, and the machines there are."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return len(children), len(os.listdir("/proc/self/fd")), len(list(running()))  # noqa: PTH208 (its own descriptor is in both)


def test_one_is_made_where_nobody_knows_yet_whether_kvm_works(site: Site, own_templates: Path) -> None:
    """As on a new host: the making is the trial, and what it found out holds for the jobs."""
    site.configure(machine_accelerator="auto")
    built = site.dayfly("template", "build", IMAGE)
    assert built.status == 0, built.err
    finished = site.run("echo", "fine")
    assert (finished.status, finished.out, finished.err) == (0, b"fine\n", "")
    assert site.record()["machine"]["template"] == built.out.decode().strip()
    (template,) = listed(site)
    assert template["template"]["snapshot"]["config"]["accelerator"] == site.record()["machine"]["accelerator"]


def test_the_command_line(site: Site, own_templates: Path) -> None:
    empty = site.dayfly("template", "list")
    assert (empty.status, empty.out) == (0, b"")
    assert "no templates yet" in empty.err
    built = site.dayfly(
        "template", "build", IMAGE, "--memory", "300M", "--shares", "2", "--network", "nat", before=site.networked
    )
    assert built.status == 0, built.err
    name = built.out.decode().strip()
    table = site.dayfly("template", "list").out.decode()
    assert name in table
    assert "300 MiB" in table
    fields = site.dayfly("template", "show", name[:8]).out.decode()
    assert "shares:" in fields
    (site.work / "other").mkdir()
    options = ("--memory", "300M", "--share", str(site.work / "other"), "--network", "nat")
    job = site.run("echo", "fine", options=options, before=site.networked)
    assert job.out == b"fine\n"
    assert site.record()["machine"]["template"] == name
    missing = site.dayfly("template", "show", "ffff")
    assert (missing.status, missing.err) == (
        125,
        "dayfly: no template's name begins with 'ffff' (`dayfly template list` shows them)\n",
    )
    removed = site.dayfly("template", "remove", name)
    assert (removed.status, removed.out) == (0, f"{name} removed\n".encode())
    assert list(own_templates.iterdir()) == []
