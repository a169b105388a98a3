"""Detects that this host is itself a machine of Dayfly: then it has the channel of a machine."""

from __future__ import annotations

import os

from dayfly.errors import Refused
from dayfly.machine.command import CHANNEL_PORT

PORTS = "/sys/class/virtio-ports"


def refuse(ports: str = PORTS) -> None:
    """Raises `Refused` in a machine: a nested machine would be emulated twice, and seem to hang."""
    try:
        names = os.listdir(ports)  # noqa: PTH208 (on the way to every job's start)
    except OSError:
        return
    if any(_label(f"{ports}/{name}/name") == CHANNEL_PORT for name in names):
        raise Refused("this host is itself a machine of Dayfly, and machines cannot run machines", "submit the job from a host")


def _label(path: str) -> str:
    """The name of a port; empty: it has none."""
    try:
        with open(path) as file:  # noqa: PTH123
            return file.read(256).strip()
    except OSError:
        return ""
