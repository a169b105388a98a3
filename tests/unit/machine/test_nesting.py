"""Whether this host is a machine of Dayfly's."""

from __future__ import annotations

from pathlib import Path

import pytest

from dayfly.errors import Refused
from dayfly.machine.command import CHANNEL_PORT
from dayfly.machine.nesting import refuse


def port(folder: Path, name: str, label: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "name").write_text(f"{label}\n")


def test_hosts(tmp_path: Path) -> None:
    refuse(str(tmp_path / "none"))
    refuse(str(tmp_path))
    port(tmp_path, "vport1p1", "org.qemu.guest_agent.0")  # as a host has one that is a virtual machine of somebody else's
    (tmp_path / "vport2p1").mkdir()
    refuse(str(tmp_path))


def test_a_machine(tmp_path: Path) -> None:
    port(tmp_path, "vport0p1", CHANNEL_PORT)
    with pytest.raises(Refused, match="this host is itself a machine of Dayfly, and machines cannot run machines"):
        refuse(str(tmp_path))
