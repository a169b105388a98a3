"""The limits for a machine by this host and this process's cgroup."""

from __future__ import annotations

import os

from dayfly.errors import Refused
from dayfly.machine.config import Shape
from dayfly.units import format_size

LEAST_MEMORY = 128 * 1024**2
LEAST_SCRATCH = 16 * 1024**2


def check_shape(shape: Shape, scratch: int) -> None:
    """Raise `Refused` for a machine that is too large for this host, or too small for any kernel."""
    cpus = len(os.sched_getaffinity(0))
    if shape.cpus > cpus:
        raise Refused(f"{shape.cpus} CPUs requested, but this process may use {cpus}", f"ask for --cpus {cpus} or fewer")
    if shape.memory < LEAST_MEMORY:
        raise Refused(f"a machine needs at least {format_size(LEAST_MEMORY)} of memory", "ask for more with --memory")
    memory = host_memory()
    if shape.memory > memory:
        raise Refused(
            f"{format_size(shape.memory)} of memory requested, but this host (or this job's cgroup) has {format_size(memory)}",
            "ask for less with --memory",
        )
    if scratch < LEAST_SCRATCH:
        raise Refused(f"a machine needs at least {format_size(LEAST_SCRATCH)} of scratch", "ask for more with --scratch")


def host_memory() -> int:
    """The most bytes of memory that this process can use: the host's, or its cgroup's limit if that is lower."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([total, *_cgroup_limits()])


def _cgroup_limits() -> list[int]:
    """The memory limits of the cgroups that this process is in (cgroups(7): v2 `memory.max`, v1 `memory.limit_in_bytes`)."""
    limits: list[int] = []
    try:
        with open("/proc/self/cgroup") as file:  # noqa: PTH123 (on the way to every job's start)
            lines = file.read().splitlines()
    except OSError:
        return limits
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            limits += _limits_up("/sys/fs/cgroup", path, "memory.max")
        elif "memory" in controllers.split(","):
            limits += _limits_up("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes")
    return limits


def _limits_up(base: str, path: str, name: str) -> list[int]:
    limits = []
    while path and path != "/":
        try:
            with open(f"{base}{path}/{name}") as file:  # noqa: PTH123 (on the way to every job's start)
                text = file.read().strip()
        except OSError:
            text = ""
        if text.isdigit():
            limits.append(int(text))
        path = path.rpartition("/")[0]
    return limits
