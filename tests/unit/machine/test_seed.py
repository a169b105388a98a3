"""The CD that brings the agent to a disk's cloud-init."""

from __future__ import annotations

from io import BytesIO

import pycdlib
import pytest

from dayfly.guest.initramfs import agent_archive, archive, member, regular
from dayfly.guest.seed import LABEL, seed


def test_it_is_what_cloud_init_looks_for() -> None:
    agent = bytes(range(256)) * 50
    content = seed(agent, "0123456789")
    assert content[0x8001:0x8006] == b"CD001"
    iso = pycdlib.PyCdlib()
    iso.open_fp(BytesIO(content))
    found = {}
    for child in iso.list_children(rr_path="/"):
        if child is not None and child.is_file():
            target = BytesIO()
            name = child.rock_ridge.name().decode()
            iso.get_file_from_iso_fp(target, rr_path=f"/{name}")
            found[name] = target.getvalue()
    assert iso.pvd.volume_identifier.decode().strip() == LABEL
    iso.close()
    assert set(found) == {"user-data", "meta-data", "network-config", "start", "agent"}
    assert found["agent"] == agent
    assert found["meta-data"] == b"instance-id: dayfly-0123456789\n"
    assert found["user-data"].startswith(b"#cloud-config\n")


def test_the_agent_is_found_in_its_archive() -> None:
    assert member(agent_archive(b"the agent"), "init") == b"the agent"
    both = archive((regular("a/b", b"1"), regular("init", b"22")))
    assert member(both, "a/b") == b"1"
    for broken in (both[:50], b"", both):
        with pytest.raises(KeyError):
            member(broken, "none")
