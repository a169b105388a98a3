"""Why QEMU ended, as a message: its status, its last lines, and the caller's limit that caused it. Pure."""

from __future__ import annotations

import resource
import signal
from collections.abc import Sequence

from dayfly.units import format_size

_CRASHES = frozenset((signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGSYS, signal.SIGTRAP))
_KIBIBYTE = 1024
Limits = Sequence[tuple[int, int]]
"""The soft and the hard limit of each resource by number, from `dayfly.process.limits`."""


def crashed(status: int) -> bool:
    """Whether QEMU crashed, and was not killed."""
    return -status in _CRASHES


def why(status: int, complaints: str, cpu: float, limits: Limits) -> tuple[str, str]:
    """A message, with QEMU's last lines, and a hint. `cpu` are the seconds of CPU time that QEMU used."""
    limit = _of_cpu(status, cpu, limits) or behind(complaints, limits)
    said = "".join(f"\n  | {line}" for line in complaints.splitlines())
    if status >= 0:
        return f"QEMU exited with {status}{said}", limit
    if crashed(status):
        return f"QEMU crashed with signal {-status}{said}", limit or "see its last lines; `dayfly doctor` checks QEMU"
    return f"QEMU was killed by signal {-status}{said}", limit or "by a user, or by the host because it was out of memory"


def behind(text: str, limits: Limits) -> str:
    """The caller's limit that caused a system error, as `ulimit` shows it; empty if none did."""
    kinds = (
        ("Cannot allocate memory", (resource.RLIMIT_AS, resource.RLIMIT_DATA)),
        ("cannot set up guest memory", (resource.RLIMIT_AS, resource.RLIMIT_DATA)),
        ("failed to allocate", (resource.RLIMIT_AS, resource.RLIMIT_DATA)),
        ("Resource temporarily unavailable", (resource.RLIMIT_NPROC,)),
        ("can't start new thread", (resource.RLIMIT_NPROC, resource.RLIMIT_AS)),
        ("Too many open files", (resource.RLIMIT_NOFILE,)),
        ("File too large", (resource.RLIMIT_FSIZE,)),
    )
    shown = (shown_limit(number, limits) for phrase, numbers in kinds if phrase in text for number in numbers)
    return next(filter(None, shown), "")


def shown_limit(number: int, limits: Limits) -> str:
    """A hint with the hard limit, if there is one."""
    hard = limits[number][1]
    if hard == resource.RLIM_INFINITY:
        return ""
    option, what, shown = {
        resource.RLIMIT_AS: ("v", "of address space", f"{hard // _KIBIBYTE} KiB ({format_size(hard)})"),
        resource.RLIMIT_DATA: ("d", "of data", f"{hard // _KIBIBYTE} KiB ({format_size(hard)})"),
        resource.RLIMIT_NPROC: ("u", "of processes", str(hard)),
        resource.RLIMIT_NOFILE: ("n", "of open files", str(hard)),
        resource.RLIMIT_FSIZE: ("f", "of file size", format_size(hard)),
        resource.RLIMIT_CPU: ("t", "of CPU time", f"{hard} s"),
    }[number]
    return f"the caller's limit {what}, `ulimit -{option}`, is {shown}: a machine needs more"


def _of_cpu(status: int, cpu: float, limits: Limits) -> str:
    hard = limits[resource.RLIMIT_CPU][1]
    reached = status in (-signal.SIGXCPU, -signal.SIGKILL) and hard != resource.RLIM_INFINITY and cpu >= hard - 1
    return shown_limit(resource.RLIMIT_CPU, limits) if reached else ""
