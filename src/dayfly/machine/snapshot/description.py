"""The description of a snapshot, which decides what can restore it. docs/reference/snapshot.md describes the format."""

from __future__ import annotations

from enum import StrEnum

from dayfly.errors import Refused
from dayfly.machine import serialized
from dayfly.machine.config import MachineConfig
from dayfly.values import dataclass

VERSION = 1


class AgentState(StrEnum):
    """What the agent was doing: `IDLE`, it waits for a command, or `RUNNING` one."""

    IDLE = "idle"
    RUNNING = "running"


@dataclass(frozen=True)
class Snapshot:
    """A saved machine: its configuration, the version of the QEMU that saved it, and what its agent was doing.

    A QEMU of the same version can restore it, or a later one that supports the machine type, in a machine of the same
    accelerator, CPU model, shape, boot mode, disks, number of shares and kind of network.
    """

    config: MachineConfig
    qemu: str
    agent: AgentState


def render(snapshot: Snapshot) -> dict[str, object]:
    """The description as values of JSON."""
    return {
        "version": VERSION,
        "qemu": snapshot.qemu,
        "agent": str(snapshot.agent),
        "config": serialized.render(snapshot.config),
    }


def parse(value: object) -> Snapshot:
    """Read what `render` wrote. Raises `Refused` for anything else."""
    if not isinstance(value, dict) or value.keys() != {"version", "qemu", "agent", "config"}:
        raise Refused("it is not a snapshot's description")
    if value["version"] != VERSION or isinstance(value["version"], bool):
        raise Refused(f"a snapshot has the version {value['version']!r} instead of {VERSION}")
    if not isinstance(value["qemu"], str) or value["agent"] not in list(AgentState):
        raise Refused("a snapshot's description is damaged")
    return Snapshot(serialized.parse(value["config"]), value["qemu"], AgentState(value["agent"]))
