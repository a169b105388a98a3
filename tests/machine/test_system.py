"""An image that boots its own systemd: the job finds what it finds in every machine, and a system around it that has settled."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.framework.site import Site


def test_a_job_in_a_whole_system(site: Site, system_image: str) -> None:
    """Status, streams, user, shared folder, network, host name and clock: as where the agent is init."""
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(site.work)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    (site.work / "page").write_text("from the host\n")
    script = (
        "cat /proc/1/comm; cat; echo err >&2; id -u; pwd; hostname; cat /etc/machine-id; cat /proc/self/cgroup; "
        "curl -s http://10.0.2.2:$1/page; echo made > made; touch /tmp/mine /var/tmp/mine; "
        "(setsid sleep 600; echo late) & exit 7"
    )
    try:
        assert server.stdout is not None
        port = server.stdout.readline().decode().split(" port ")[1].split()[0]
        words = ("--network", "nat", "--", "sh", "-c", script, "sh", port)
        finished = site.dayfly("run", f"user/{system_image}", *words, stdin=b"stdin\n", before=site.networked)
    finally:
        server.kill()
        server.communicate()
    assert (finished.status, finished.err) == (7, "err\n")
    init, stdin, uid, folder, host, machine_id, group, page = finished.out.decode().splitlines()
    assert (init, stdin, int(uid), folder, page) == (
        "systemd",
        "stdin",
        0 if site.networked else os.getuid(),
        str(site.work),
        "from the host",
    )
    assert host == "dayfly-" + site.record()["id"]
    assert len(machine_id) == 32
    assert group == "0::/dayfly.job"
    assert (site.work / "made").read_text() == "made\n"
    record = site.record()
    assert (record["machine"]["boot"], record["end"]["reason"]) == ("system", "exit")
    assert record["used"]["peak_memory"] > 0


def test_the_system_has_settled_and_is_whole(site: Site, system_image: str) -> None:
    script = (
        "systemctl is-active multi-user.target dbus systemd-logind systemd-udevd systemd-journald; "
        "systemctl --failed --no-legend; "
        "hostnamectl --static; journalctl --no-pager -q -o cat -u dayfly-agent | tail -1; "
        "readlink -f /dev/disk/by-id/virtio-root; systemctl start systemd-tmpfiles-clean && echo started; "
        "mountpoint -q . && echo shared; kill -9 $$"
    )
    finished = site.dayfly("run", f"user/{system_image}", "--user", "root", "--", "sh", "-c", script)
    assert finished.status == 137, finished.err
    name = "dayfly-" + site.record()["id"]
    assert finished.out.decode().splitlines() == [
        *["active"] * 5,
        name,
        "Started dayfly-agent.service - Dayfly agent.",
        "/dev/vda",
        "started",
        "shared",
    ]


def test_the_journal_of_a_system_that_a_user_built(site: Site, own_system_image: str) -> None:
    """journald was started under the template's machine-id, and keeps its journal in /var/log."""
    script = (
        "journalctl --no-pager -q -o cat -u systemd-journald | grep -cx 'Journal started'; "
        "systemctl status --no-pager systemd-journald | grep -c 'Journal started'; "
        "logger -t job a line of the job; journalctl --sync; journalctl --no-pager -q -o cat -t job; "
        "journalctl --no-pager -q --rotate && journalctl --no-pager -q -o cat -t job; "
        "ls /var/log/journal | grep -cx $(cat /etc/machine-id)"
    )
    finished = site.dayfly("run", f"user/{own_system_image}", "--user", "root", "--", "sh", "-c", script)
    assert finished.status == 0, finished.err
    assert finished.out.decode().splitlines() == ["1", "1", "a line of the job", "a line of the job", "1"]


def test_the_devices_of_a_system_that_a_user_built(site: Site, own_system_image: str) -> None:
    script = "systemctl is-active systemd-udevd dbus; stat -c '%n %a %U:%G' /dev/null /dev/vda /dev/net/tun /dev/fuse /dev/rtc0"
    finished = site.dayfly("run", f"user/{own_system_image}", "--", "sh", "-c", script)
    assert (finished.status, finished.err) == (0, "")
    assert finished.out.decode().splitlines() == [
        *["active"] * 2,
        "/dev/null 666 root:root",
        "/dev/vda 660 root:disk",
        "/dev/net/tun 666 root:root",
        "/dev/fuse 666 root:root",
        "/dev/rtc0 600 root:root",
    ]


def test_a_timeout_and_a_power_off(site: Site, system_image: str) -> None:
    site.configure(job_grace="1s")
    script = "trap '' TERM; echo up; while :; do sleep 1; done"
    finished = site.dayfly("run", f"user/{system_image}", "--timeout", "10s", "--", "sh", "-c", script)
    assert (finished.status, finished.out) == (124, b"up\n")
    off = site.dayfly("run", f"user/{system_image}", "--user", "root", "--", "sh", "-c", "systemctl poweroff; sleep 100")
    assert off.status == 125
    assert "powered off from inside" in off.err
    assert off.seconds < 60
