"""The size of a job's machine: the job's allocation, minus what QEMU itself needs. Pure."""

from __future__ import annotations

from dayfly.errors import Refused
from dayfly.machine.config import Shape
from dayfly.provision.host import LEAST_MEMORY
from dayfly.units import format_size
from dayfly.values import dataclass

_MIB = 1024**2
_QEMU_MAPS = 768 * _MIB
"""Address space that QEMU needs in addition to a machine's memory: translated code, stacks, heaps, libraries (650 MiB
measured).
"""
_PAGE_TABLES = 256
"""A machine's memory divided by this is the size of the page tables that map it, QEMU's and the host kernel's."""


@dataclass(frozen=True)
class Allocation:
    """The task's allocation on this node: CPUs, and bytes of memory (0: the batch system does not allocate memory).

    `tasks` share the host's limits. `own`: no limit enforces the allocated memory, so what QEMU needs is taken from it.
    `address_space` is a limit on each process's mappings, in bytes (0: none).
    """

    cpus: int
    memory: int
    tasks: int = 1
    own: bool = False
    address_space: int = 0


@dataclass(frozen=True)
class Host:
    """The limits of this process: CPUs, bytes of memory by cgroup or host, and the CPUs of the whole host."""

    cpus: int
    memory: int
    all_cpus: int


def _within_address_space(limit: int) -> int:
    """The memory of a machine that QEMU can map. Raises `Refused` if no machine fits."""
    if not limit:
        return 1 << 62
    if limit < _QEMU_MAPS + LEAST_MEMORY:
        raise Refused(
            f"the job's address space is limited to {format_size(limit)}, but QEMU needs {format_size(_QEMU_MAPS)} "
            f"in addition to the machine's memory",
            f"ask for {-(-(_QEMU_MAPS + LEAST_MEMORY) // _MIB)} MiB or more (h_vmem, ulimit -v)",
        )
    return limit - _QEMU_MAPS


def shape(allocation: Allocation, host: Host, overhead: int, most: int = 0) -> Shape:
    """The largest machine that stays within the allocation and, with QEMU's own need, within the host's limits.

    A site that lets jobs use more than their allocation (Slurm's AllowedRAMSpace) leaves room for QEMU, and machines get the
    whole allocation. `most` is the limit on a machine's memory, in bytes (0: none). Raises `Refused` if no machine fits.
    """
    cpus = max(1, min(allocation.cpus or host.cpus, host.cpus))
    limit = host.memory // allocation.tasks if allocation.memory else host.memory * cpus // host.all_cpus
    if allocation.memory and allocation.own:
        limit = min(limit, allocation.memory)
    usable = limit - overhead
    memory = usable - usable // _PAGE_TABLES
    if allocation.memory:
        memory = min(memory, allocation.memory)
    memory = min(memory, most or memory, _within_address_space(allocation.address_space)) // _MIB * _MIB
    if memory < LEAST_MEMORY:
        least = overhead + LEAST_MEMORY * _PAGE_TABLES // (_PAGE_TABLES - 1)
        raise Refused(
            f"the job has {format_size(limit)} of memory, but a machine needs {format_size(overhead)} for itself "
            f"and {format_size(LEAST_MEMORY)} for the job",
            f"ask the batch system for {-(-least // _MIB)} MiB or more",
        )
    return Shape(cpus, memory)
