"""Saves a machine. Its memory must already be in a file of its own (`Start.SAVEABLE`), and no folder may be mounted in it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from dayfly import files
from dayfly.errors import MachineFailed
from dayfly.machine.machine import Machine
from dayfly.machine.resources import OpenResources
from dayfly.machine.snapshot.description import AgentState, Snapshot
from dayfly.values import dataclass


@dataclass(frozen=True)
class SnapshotFiles:
    """Open, empty files that a snapshot is written to: QEMU's state, the memory, and each writable disk by its role."""

    state: int
    memory: int
    disks: Mapping[str, int]


async def save(machine: Machine, state: int, agent: AgentState = AgentState.IDLE) -> Snapshot:
    """Save a machine, which is stopped afterwards: its memory and its disks are in their files then, the rest in `state`.

    Raises `MachineFailed` if it cannot be saved.
    """
    try:
        await machine.save(state)
    except MachineFailed as error:
        raise await machine.killed() or MachineFailed(f"the machine could not be saved: {error}", error.hint) from error
    return Snapshot(machine.config, machine.qemu_version, agent)


async def take(machine: Machine, resources: OpenResources, into: SnapshotFiles, agent: AgentState) -> Snapshot:
    """Save a machine to separate files of the snapshot; the machine continues. This can be repeated.

    `resources` are the machine's. Raises `MachineFailed`, or `NoSpace`; the machine continues then too, unless it has ended.
    """
    if resources.memory is None:
        raise MachineFailed("the machine's memory is not in a file, so the machine cannot be saved")
    try:
        snapshot = await save(machine, into.state, agent)
        _copy(resources.memory.descriptor, into.memory)
        for disk, file in zip(machine.config.disks, resources.disks, strict=True):
            if not disk.readonly:
                _copy(file.descriptor, into.disks[disk.role])
    finally:
        await machine.resume()
    return snapshot


def _copy(source: int, target: int) -> None:
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    files.copy_data(source, target, size)
