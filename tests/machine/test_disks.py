"""Jobs in machines of a disk as clouds have them: Debian with systemd, GRUB and cloud-init, put together by the tests."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.framework import disks
from tests.framework.images import TEST_LIBRARY
from tests.framework.site import Site, allowing
from tests.machine.conftest import imported

SECONDS = 400.0
pytestmark = pytest.mark.timeout(1500)  # the disk is made first, once


@pytest.fixture(scope="session")
def cloud() -> Path:
    """The disk."""
    return disks.debian(TEST_LIBRARY.parent / "test-disks")


def test_a_disk_runs_jobs_by_its_own_kernel(importing: Site, cloud: Path) -> None:
    imported(importing, str(cloud), "cloud:12")
    shown = json.loads(importing.dayfly("image", "show", "cloud:12", "--json").out)
    assert shown["config"]["boot"] == "system"
    assert shown["config"]["os"]["pretty_name"] == "Debian GNU/Linux 12 (bookworm)"
    assert set(shown["layers"]) == {"root", "kernel", "boot-modules"}
    inspected = importing.dayfly("image", "inspect", "cloud:12", "--json")
    assert "cloud-init" in [package["name"] for package in json.loads(inspected.out)["contents"]["packages"]]
    (importing.work / "mine").write_text("of the host\n")
    script = (
        "uname -r; cat mine; id -u; stat -c '%a %u %g %h %s' /opt/tricks/setuid /opt/tricks/holes;"
        "/usr/sbin/getcap /opt/tricks/capable;"
        "cat /proc/1/comm; systemctl --failed --no-legend; echo made > made; exit 7"
    )
    done = importing.dayfly("run", "cloud:12", "--", "sh", "-c", script, seconds=SECONDS)
    assert (done.status, done.out.decode().splitlines()) == (
        7,
        [
            shown["config"]["kernel"]["version"],
            "of the host",
            str(os.getuid()),
            "4755 1000 2000 2 7",
            "644 0 0 1 1048576",
            "/opt/tricks/capable cap_net_raw=ep",
            "systemd",
        ],
    ), done.err
    assert (importing.work / "made").read_text() == "made\n"
    record = importing.record()
    assert record["image"]["origin"] == f"disk:{cloud}"
    assert (record["machine"]["boot"], record["machine"]["start"]) == ("system", "template")
    allowing(importing, "https://*")
    assert "no rule is about" in importing.dayfly("run", "cloud:12", "--", "true").err


def test_a_disk_runs_jobs_when_firmware_boots_it(importing: Site, cloud: Path) -> None:
    imported(importing, "--firmware", str(cloud), "whole:12")
    refused = importing.dayfly("run", "whole:12", "--boot", "agent", "--", "true")
    assert "is a whole disk, which boots by bios" in refused.err
    refused = importing.dayfly("run", "--save-as", "saved:1", "whole:12", "--", "true")
    assert "is a whole disk, whose machines cannot be saved" in refused.err
    settings = importing.settings_file.read_text()
    importing.settings_file.write_text(settings.replace("[machine]\n", "[machine]\nboot_timeout = '380s'\n"))
    (importing.work / "mine").write_text("of the host\n")
    script = "cat; cat mine; id -u; pwd; hostname; cat /proc/cmdline /sys/block/vda/size; echo made > made; echo bad >&2; exit 7"
    done = importing.dayfly("run", "whole:12", "--", "sh", "-c", script, stdin=b"typed\n", seconds=SECONDS)
    assert done.status == 7, done.err
    assert done.err == "bad\n"
    record = importing.record()
    lines = done.out.decode().splitlines()
    assert lines[:5] == ["typed", "of the host", str(os.getuid()), str(importing.work), f"dayfly-{record['id']}"]
    assert lines[5].startswith("BOOT_IMAGE=/vmlinuz ")
    assert int(lines[6]) * 512 == (604 << 20) + (1 << 30), "the disk, and the site's scratch.size"
    assert (importing.work / "made").read_text() == "made\n"
    assert (record["machine"]["boot"], record["machine"]["start"]) == ("bios", "cold")
    assert record["machine"]["cold_reason"] == "the image is a whole disk, which firmware boots"
    assert "hello" in record["phases"]


def test_a_disk_whose_system_does_not_come_up(importing: Site) -> None:
    (importing.work / "loops.raw").write_bytes((b"\xeb\xfe".ljust(510, b"\0") + b"\x55\xaa").ljust(disks.MIB, b"\0"))
    imported(importing, "--firmware", "loops.raw", "loops:1")
    settings = importing.settings_file.read_text()
    importing.settings_file.write_text(settings.replace("[machine]\n", "[machine]\nboot_timeout = '3s'\n"))
    done = importing.dayfly("run", "loops:1", "--", "true")
    assert (done.status, done.out) == (125, b"")
    assert "the disk's own system did not come up within 3 s" in done.err
    assert "its cloud-init must start the agent" in done.err
    assert importing.record()["end"]["reason"] == "kernel-failed"
