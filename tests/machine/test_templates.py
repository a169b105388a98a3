"""Templates: made once, used by everything that makes them, never in another's hands, and never written to by a clone."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dayfly.files import fingerprint
from dayfly.image.library import Library, Source
from dayfly.image.reference import parse
from dayfly.machine.processes import running
from tests.framework.site import IMAGE, Site, eventually, kill
from tests.machine.test_faults import in_small_disk, works

ROUNDS = 50
NOBODY, SOMEBODY = 65534, 65533


def listed(site: Site) -> list[dict[str, Any]]:
    """The templates as programs get them."""
    finished = site.dayfly("template", "list", "--json")
    assert finished.status == 0, finished.err
    templates: list[dict[str, Any]] = json.loads(finished.out)
    return templates


def start_of(site: Site) -> tuple[str, str]:
    """How the last job's machine came to be, and why not from a template."""
    machine = site.record()["machine"]
    return machine["start"], machine["cold_reason"]


def folder_of(own_templates: Path) -> Path:
    """The only template's."""
    (folder,) = (path for path in own_templates.iterdir() if path.is_dir())
    return folder


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
    assert start_of(site) == ("cold", "asked for")
    assert listed(site) == []
    assert not own_templates.exists()


@pytest.mark.parametrize(
    "option", [("--memory", "300M"), ("--cpus", "2"), ("--scratch", "2G"), ("--network", "nat"), ("--no-share",)], ids="-".join
)
def test_another_machine_has_another_template(site: Site, option: tuple[str, ...]) -> None:
    works(site)
    one = site.record()["machine"]["template"]
    finished = site.run("echo", "fine", options=option)
    assert (finished.status, finished.out) == (0, b"fine\n")
    other = site.record()["machine"]
    assert (other["start"], other["template"] != one) == ("template", True)


def test_an_image_that_was_rebuilt_under_its_name(site: Site, own_templates: Path, own_library: Library) -> None:
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


@pytest.mark.parametrize("part", ["memory", "state", "scratch", "template.json"])
@pytest.mark.parametrize("how", ["removed", "truncated", "changed", "a link"])
def test_a_damaged_one_is_noticed_and_made_again(site: Site, own_templates: Path, part: str, how: str) -> None:
    shutil.copytree(ready_template(site), own_templates / ready_template(site).name, copy_function=copy_sparse)
    refingerprint(folder_of(own_templates))
    works(site)
    assert site.record()["phases"]["spawned"] < 1.5  # the copy was used
    path = folder_of(own_templates) / part
    if how == "removed":
        path.unlink()
    elif how == "truncated":
        os.truncate(path, path.stat().st_size // 2)
    elif how == "changed":
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 3)
            file.write(b"changed")
    else:
        path.rename(site.work / "elsewhere")
        path.symlink_to(site.work / "elsewhere")
    made = folder_of(own_templates).stat().st_ino
    works(site)
    assert start_of(site) == ("template", "")
    (template,) = listed(site)
    assert template["state"] == "ready"
    assert site.dayfly("template", "show", template["name"]).out.count(b"ready") == 1
    assert made


def ready_template(site: Site) -> Path:
    """A template of the shared store that fits this site's jobs, made when it is missing."""
    shared = site.library / "templates"
    own, site.templates = site.templates, shared
    site.configure()
    finished = site.dayfly("template", "build", IMAGE)
    assert finished.status == 0, finished.err
    site.templates = own
    site.configure()
    return shared / finished.out.decode().strip()


def copy_sparse(source: str, target: str) -> None:
    subprocess.run(["cp", "--sparse=always", source, target], check=True)


def refingerprint(folder: Path) -> None:
    """Write the fingerprints of the files as they are into template.json."""
    about = json.loads((folder / "template.json").read_text())
    for part, file in about["files"].items():
        (folder / part).chmod(0o600)
        file["fingerprint"] = fingerprint((folder / part).stat())
    (folder / "template.json").write_text(json.dumps(about))
    (folder / "template.json").chmod(0o600)
    folder.chmod(0o700)
    folder.parent.chmod(0o700)


def test_one_that_cannot_be_restored(site: Site, own_templates: Path) -> None:
    """Its fingerprints are right and its state is not: QEMU says so, the job boots, and the next one has a template again."""
    shutil.copytree(ready_template(site), own_templates / ready_template(site).name, copy_function=copy_sparse)
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
    assert (start, "no room for a template" in reason) == ("cold", True)


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


# Strangers


@pytest.mark.timeout(300)
def test_fifty_clones_are_strangers(site: Site) -> None:
    script = """
        head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n'; echo
        cat /proc/sys/kernel/random/uuid /etc/machine-id; hostname; cat /etc/hostname; tail -n 1 /etc/hosts | cut -f 2
        cat /sys/class/net/eth0/address; cat /proc/sys/kernel/random/boot_id
        while read -r line; do echo $EPOCHREALTIME; done
    """
    seen: list[tuple[str, ...]] = []
    for _ in range(ROUNDS):
        with site.start("run", IMAGE, "--network", "nat", "--", "bash", "-c", script) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            found = tuple(process.stdout.readline().decode().strip() for _ in range(8))
            apart = max(_apart(process) for _ in range(5))
            process.stdin.close()
            assert process.wait(30) == 0
        assert apart < 0.05
        random_bytes, uuid, machine_id, host, hostname_file, hosts, mac, boot = found
        assert host == hostname_file == hosts
        assert (len(random_bytes), len(machine_id)) == (64, 32)
        seen.append((random_bytes, uuid, machine_id, host, mac, boot))
    assert {record["machine"]["start"] for record in site.records()} == {"template"}
    for values in zip(*seen, strict=True):
        assert len(set(values)) == ROUNDS


@pytest.mark.timeout(300)
def test_fifty_clones_have_host_keys_of_their_own(site: Site, ssh_image: str) -> None:
    """Of an image with an ssh server: the keys that were made when the image was built are nobody's any more."""
    seen = set()
    script = "ls /etc/ssh/ssh_host_*; ssh-keygen -y -f /etc/ssh/ssh_host_ed25519_key | cut -d ' ' -f 2"
    for _ in range(ROUNDS):
        finished = site.dayfly("run", f"user/{ssh_image}", "--user", "root", "--no-share", "--", "sh", "-c", script)
        assert finished.status == 0, finished.err
        *names, key = finished.out.decode().split()
        assert [Path(name).name for name in names] == ["ssh_host_ed25519_key", "ssh_host_ed25519_key.pub"]
        assert key.startswith("AAAAC3NzaC1lZDI1NTE5")
        seen.add(key)
    assert len(seen) == ROUNDS
    assert {record["machine"]["start"] for record in site.records()} == {"template"}


def _apart(process: subprocess.Popen[bytes]) -> float:
    """By how many seconds the guest's clock is beyond the time in which it was read: between our asking and its answer."""
    assert process.stdin is not None
    assert process.stdout is not None
    asked = time.time()
    process.stdin.write(b"\n")
    process.stdin.flush()
    told = float(process.stdout.readline())
    answered = time.time()
    return max(asked - told, told - answered)


# Nothing of a job reaches the template


def digests(site: Site) -> dict[str, str]:
    """Those of the shared store's template for this site's jobs, read again from its files."""
    finished = site.dayfly("template", "show", ready_template(site).name, "--json")
    shown = json.loads(finished.out)
    assert shown["state"] == "ready"
    return {part: file["digest"] for part, file in shown["template"]["files"].items()}


def dirty(site: Site, clones: int, at_once: int) -> None:
    """Clones that write to all of their memory."""
    script = "all = [bytes(1 << 20).replace(b'\\0', b'x') for _ in range(340)]\nprint(len(all))"
    left = clones
    while left:
        jobs = [site.start("run", IMAGE, "--user", "root", "--", "python3", "-c", script) for _ in range(min(at_once, left))]
        for job in jobs:
            out, err = job.communicate(timeout=300)
            assert (job.returncode, out) == (0, b"340\n"), err
        left -= len(jobs)


@pytest.mark.timeout(300)
def test_clones_that_dirty_all_their_memory(site: Site) -> None:
    before = digests(site)
    dirty(site, 6, 2)
    assert digests(site) == before
    assert {record["machine"]["start"] for record in site.records()} == {"template"}


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_hundreds_of_clones_that_dirty_all_their_memory(site: Site) -> None:
    before = digests(site)
    dirty(site, 300, 4)
    assert digests(site) == before


def test_what_a_job_writes_is_not_in_the_next(site: Site) -> None:
    script = "echo secret > /root/mine; echo secret > /dev/shm/mine; echo secret > /etc/motd; hostname secret; sync"
    assert site.shell(script, "--user", "root").status == 0
    found = site.shell("ls /root /dev/shm; cat /etc/motd; hostname", "--user", "root")
    assert b"secret" not in found.out
    assert b"mine" not in found.out


# Whose


def system_settings(site: Site, folder: Path) -> list[str]:
    """A command that sees an /etc in which the site's settings name this folder of the site's templates."""
    upper, work = site.folder / "work/etc/upper", site.folder / "work/etc/work"
    (upper / "dayfly").mkdir(parents=True, exist_ok=True)
    work.mkdir(exist_ok=True)
    (upper / "dayfly/settings.toml").write_text(f'[templates]\nsystem = "{folder}"\n')
    script = f'mount -t overlay etc -o lowerdir=/etc,upperdir={upper},workdir={work} /etc && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, "sh"]


@pytest.fixture
def site_templates(site: Site) -> Path:
    """The folder of the site's templates, root's, with one for this site's jobs."""
    if os.geteuid() != 0:
        pytest.skip("the site's templates are root's")
    folder = site.folder / "work/site-templates"
    folder.mkdir(mode=0o755)
    built = site.dayfly("template", "build", IMAGE, "--system", before=system_settings(site, folder))
    assert built.status == 0, built.err
    return folder


def test_the_sites_is_for_all_and_in_nobody_elses_hands(site: Site, site_templates: Path) -> None:
    before = system_settings(site, site_templates)
    folder = folder_of(site_templates)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o444}
    site.give_to(NOBODY)
    for path in (site_templates, *site_templates.rglob("*")):
        os.chown(path, 0, 0)
    refingerprint_only(folder)
    shown = json.loads(site.dayfly("template", "show", f"system/{folder.name}", "--json", before=before).out)
    refused = site.dayfly("template", "build", IMAGE, "--system", "--memory", "300M", before=before)
    assert refused.status == 125
    assert "no template can be kept" in refused.err
    assert site.dayfly("template", "remove", f"system/{folder.name}", before=before).status == 125
    finished = site.dayfly(
        "run", IMAGE, "--", "sh", "-c", "id -u; dd if=/dev/urandom of=/dev/shm/x bs=1M count=100", before=before
    )
    assert (finished.status, finished.out) == (0, b"65534\n"), finished.err
    assert site.record()["machine"]["start"] == "template"
    if list(site.templates.rglob("template.json")):  # with QEMU before 8.2: a copy of the site's
        assert json.loads((folder_of(site.templates) / "template.json").read_text())["made"] == shown["template"]["made"]
    for part in ("memory", "state", "scratch", "template.json"):
        attempt = site.dayfly(
            "ps", before=["setpriv", "--reuid", str(NOBODY), "--clear-groups", "sh", "-c", f"echo x >> {folder / part}"]
        )
        assert attempt.status != 0
    again = json.loads(site.dayfly("template", "show", f"system/{folder.name}", "--json", before=before).out)
    assert again["template"]["files"] == shown["template"]["files"]
    assert again["state"] == "ready"


@pytest.mark.parametrize(
    "what", ["a file of somebody else's", "a folder of somebody else's", "a file for all to write", "a folder for all to write"]
)
def test_the_sites_is_not_used_when_somebody_else_could_have_made_it(site: Site, site_templates: Path, what: str) -> None:
    folder = folder_of(site_templates)
    path = folder / "memory" if "file" in what else folder
    if "somebody" in what:
        os.chown(path, SOMEBODY, SOMEBODY)
    else:
        path.chmod(0o666 if "file" in what else 0o777)
    refingerprint_only(folder)
    finished = site.dayfly("run", IMAGE, "--", "true", before=system_settings(site, site_templates))
    assert finished.status == 0, finished.err
    assert Path(site.templates / site.record()["machine"]["template"]).is_dir()  # the user's own was used


def refingerprint_only(folder: Path) -> None:
    about = json.loads((folder / "template.json").read_text())
    for part, file in about["files"].items():
        file["fingerprint"] = fingerprint((folder / part).stat())
    (folder / "template.json").chmod(0o644)
    (folder / "template.json").write_text(json.dumps(about))
    (folder / "template.json").chmod(0o444)


def test_another_user_can_neither_read_nor_lend_one(site: Site, own_templates: Path) -> None:
    """A user's own is for him alone: others cannot read it, and one that somebody else owns is not used."""
    if os.geteuid() != 0:
        pytest.skip("two users need root")
    works(site)
    folder = folder_of(own_templates)
    for path in (own_templates, folder, folder / "memory"):
        attempt = subprocess.run(
            ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", "cat", str(path)],
            capture_output=True,
            check=False,
        )
        assert b"Permission denied" in attempt.stderr
    site.give_to(NOBODY)
    for path in (own_templates, *own_templates.rglob("*")):
        os.chown(path, SOMEBODY, SOMEBODY)
        path.chmod(0o755 if path.is_dir() else 0o644)
    refingerprint_only(folder)
    for path in folder.iterdir():
        path.chmod(0o644)
    finished = site.run("id", "-u")
    assert (finished.status, finished.out) == (0, b"65534\n"), finished.err
    assert site.record()["machine"]["start"] == "cold"  # nor can he make one there


def test_the_doctor_sees_a_folder_that_is_not_used(site: Site, own_templates: Path) -> None:
    def health() -> tuple[str, str]:
        findings = json.loads(site.dayfly("doctor", "--json").out)
        (found,) = (finding for finding in findings if finding["check"] == "templates")
        return found["health"], found["found"]

    assert health()[0] == "ok"
    own_templates.mkdir(parents=True)
    own_templates.chmod(0o777)
    assert health() == ("warning", f"{own_templates} can be written to by others than its owner")
    works(site)
    start, reason = start_of(site)
    assert start == "cold"
    assert "can be written to by others" in reason


# Killed, and removed


@pytest.mark.parametrize("victim", ["dayfly", "qemu"])
@pytest.mark.timeout(900)
def test_killed_while_it_is_made(site: Site, own_templates: Path, victim: str) -> None:
    """kill -9 at random moments from the first instruction to the save: no half of it is left, or it is noticed."""
    dice = random.Random(victim)
    for _ in range(ROUNDS // 2):
        shutil.rmtree(own_templates, ignore_errors=True)
        with site.start("run", IMAGE, "--", "echo", "fine") as process:
            time.sleep(dice.uniform(0, 4))
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


@pytest.mark.timeout(300)
def test_removed_while_it_is_cloned(site: Site, own_templates: Path) -> None:
    works(site)
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
    dice = random.Random("removed")
    for _ in range(8):
        with site.start("run", IMAGE, "--", "echo", "fine") as process:
            time.sleep(dice.uniform(0, 0.4))
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


# A whole system


def test_a_whole_system_is_cloned(site: Site, system_image: str) -> None:
    script = (
        "cat /proc/1/comm; systemctl is-system-running; systemctl is-active dbus systemd-logind; hostnamectl --static; "
        "systemctl start systemd-tmpfiles-clean && echo started"
    )
    names = set()
    for _ in range(2):
        finished = site.dayfly("run", f"user/{system_image}", "--user", "root", "--", "sh", "-c", script)
        assert finished.status == 0, finished.err
        name = "dayfly-" + site.record()["id"]
        assert finished.out.decode().splitlines() == ["systemd", "running", "active", "active", name, "started"]
        assert start_of(site) == ("template", "")
        names.add(name)
    assert len(names) == 2
    assert site.record()["phases"]["started"] < 5


def test_the_command_line(site: Site, own_templates: Path) -> None:
    empty = site.dayfly("template", "list")
    assert (empty.status, empty.out) == (0, b"")
    assert "no templates yet" in empty.err
    built = site.dayfly("template", "build", IMAGE, "--memory", "300M", "--shares", "2", "--network", "nat")
    assert built.status == 0, built.err
    name = built.out.decode().strip()
    table = site.dayfly("template", "list").out.decode()
    assert name in table
    assert "300 MiB" in table
    fields = site.dayfly("template", "show", name[:8]).out.decode()
    assert "shares:" in fields
    (site.work / "other").mkdir()
    job = site.run("echo", "fine", options=("--memory", "300M", "--share", str(site.work / "other"), "--network", "nat"))
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
