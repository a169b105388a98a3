"""How large a job's machine is: what the batch system gave the job, less what QEMU itself needs. Pure."""

from __future__ import annotations

from dayfly.errors import Refused
from dayfly.machine.config import Shape
from dayfly.provision.host import LEAST_MEMORY
from dayfly.units import format_size
from dayfly.values import dataclass

_MIB = 1024**2
_QEMU_MAPS = 768 * _MIB
"""Address space that QEMU takes beside a machine's memory: translated code, threads' stacks, heaps, libraries (650 MiB seen)."""
_PAGE_TABLES = 256
"""One part in so many of a machine's memory goes into the page tables that map it, QEMU's and the host kernel's."""


@dataclass(frozen=True)
class Allocation:
    """What the batch system gave this task on this node: CPUs, and bytes of memory (0: it does not divide memory).

    `tasks` share what the host lets us use. `own`: nothing holds the job to its memory but the batch system's word, so what QEMU
    needs comes out of it. `address_space` is a limit, in bytes, of what each process may map (0: none).
    """

    cpus: int
    memory: int
    tasks: int = 1
    own: bool = False
    address_space: int = 0


@dataclass(frozen=True)
class Host:
    """What this process can use at most: CPUs, bytes of memory by cgroup or host, and the CPUs that the whole host has."""

    cpus: int
    memory: int
    all_cpus: int


def _within_address_space(limit: int) -> int:
    """The memory of a machine that QEMU can map. Raises `Refused` when no machine fits."""
    if not limit:
        return 1 << 62
    if limit < _QEMU_MAPS + LEAST_MEMORY:
        raise Refused(
            f"the job may map {format_size(limit)} of address space, and a machine's process needs {format_size(_QEMU_MAPS)} "
            f"beside the machine's memory",
            f"ask for {-(-(_QEMU_MAPS + LEAST_MEMORY) // _MIB)} MiB or more (h_vmem, ulimit -v)",
        )
    return limit - _QEMU_MAPS


def shape(allocation: Allocation, host: Host, overhead: int, most: int = 0) -> Shape:
    """The largest machine that stays within the allocation and, with QEMU's own need, within what the host lets us use.

    A site that lets jobs use more than they were given (Slurm's AllowedRAMSpace) gives QEMU its part by that, and machines get
    all of the allocation. `most` is what a machine's memory may be at most, in bytes (0: not limited).
    Raises `Refused` when no machine fits.
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
            f"the job has {format_size(limit)} of memory, a machine needs {format_size(overhead)} of it for itself "
            f"and {format_size(LEAST_MEMORY)} for the job",
            f"ask the batch system for {-(-least // _MIB)} MiB or more",
        )
    return Shape(cpus, memory)
