"""Whether this host is itself a machine of Dayfly's: then it has the channel that the host of that machine gave it."""

from __future__ import annotations

import os

from dayfly.errors import Refused
from dayfly.machine.command import CHANNEL_PORT

PORTS = "/sys/class/virtio-ports"


def refuse(ports: str = PORTS) -> None:
    """Raises `Refused` in a machine: another in it would be emulated by what is emulated, and seem to hang."""
    try:
        names = os.listdir(ports)  # noqa: PTH208 (on the way to every job's start)
    except OSError:
        return
    if any(_label(f"{ports}/{name}/name") == CHANNEL_PORT for name in names):
        raise Refused("this is a machine of Dayfly's already, and machines do not run machines", "submit the job from a host")


def _label(path: str) -> str:
    """What a port is called; empty: it has no name."""
    try:
        with open(path) as file:  # noqa: PTH123
            return file.read(256).strip()
    except OSError:
        return ""
