"""Clones: strangers to each other, nothing of which reaches their template; also of a whole system."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from tests.framework.site import IMAGE, Site
from tests.framework.templates import ready_template, start_of

# Strangers


@pytest.mark.timeout(300)
def test_clones_are_strangers(site: Site, clones: int) -> None:
    script = """
        head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n'; echo
        cat /proc/sys/kernel/random/uuid /etc/machine-id; hostname; cat /etc/hostname; tail -n 1 /etc/hosts | cut -f 2
        cat /sys/class/net/eth0/address; cat /proc/sys/kernel/random/boot_id; stat -f -c %i /; echo $$
        while read -r line; do echo $EPOCHREALTIME; done
    """
    seen: list[tuple[str, ...]] = []
    pids = set()
    for _ in range(clones):
        with site.start("run", IMAGE, "--network", "nat", "--", "bash", "-c", script, before=site.networked) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            found = tuple(process.stdout.readline().decode().strip() for _ in range(10))
            apart = min(_apart(process) for _ in range(5))  # what a busy host adds is no fault of the clock
            process.stdin.close()
            assert process.wait(30) == 0
        assert apart < 0.05
        random_bytes, uuid, machine_id, host, hostname_file, hosts, mac, boot, filesystem, pid = found
        assert host == hostname_file == hosts
        assert (len(random_bytes), len(machine_id)) == (64, 32)
        seen.append((random_bytes, uuid, machine_id, host, mac, boot, filesystem))
        pids.add(pid)
    assert {record["machine"]["start"] for record in site.records()} == {"template"}
    for values in zip(*seen, strict=True):
        assert len(set(values)) == clones
    assert len(pids) >= clones - clones // 10 - 1  # of some 30 000, by chance: two may be the same


def test_cold_machines_are_strangers(site: Site) -> None:
    """Their scratch filesystems are copies of one, too."""
    site.run_options = ("--cold",)
    found = [site.shell("stat -f -c %i /; echo $$").out for _ in range(3)]
    assert len(set(found)) == 3
    assert b"86" not in [out.split()[1] for out in found]


@pytest.mark.timeout(300)
def test_clones_have_host_keys_of_their_own(site: Site, ssh_image: str, clones: int) -> None:
    """Of an image with an ssh server: the keys that were made when the image was built are nobody's any more."""
    seen = set()
    script = "ls /etc/ssh/ssh_host_*; ssh-keygen -y -f /etc/ssh/ssh_host_ed25519_key | cut -d ' ' -f 2"
    for _ in range(clones):
        finished = site.dayfly("run", f"user/{ssh_image}", "--user", "root", "--no-share", "--", "sh", "-c", script)
        assert finished.status == 0, finished.err
        *names, key = finished.out.decode().split()
        assert [Path(name).name for name in names] == ["ssh_host_ed25519_key", "ssh_host_ed25519_key.pub"]
        assert key.startswith("AAAAC3NzaC1lZDI1NTE5")
        seen.add(key)
    assert len(seen) == clones
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
    script = "all = [b'x' * (1 << 20) for _ in range(340)]\nprint(len(all))"
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
    dirty(site, 2, 2)
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
