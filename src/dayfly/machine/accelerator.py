"""KVM where it works, software emulation (TCG) where it does not.

That `/dev/kvm` can be opened does not mean that a guest runs: nested in another hypervisor it may hang at its first instruction.
Therefore the first machine on a host is a trial, and its verdict is kept until the host boots again.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from dayfly import files
from dayfly.errors import Refused
from dayfly.machine.spec import Accelerator

KVM_DEVICE = "/dev/kvm"
TRIAL_SECONDS = 10.0
"""With KVM the kernel is up in about one second; a trial that takes this long has failed."""

NO_KVM = "guests do not run under KVM on this host: machines are emulated (`dayfly doctor` says more)"
"""What is said when a trial has failed."""


def openable() -> bool:
    """Whether this user may use KVM at all."""
    return os.access(KVM_DEVICE, os.R_OK | os.W_OK)


class Verdict:
    """What is known of KVM on this host since it booted."""

    def __init__(self, cache: Path) -> None:
        self._path = cache / f"kvm.{os.uname().nodename}.json"  # several hosts may share the cache, as home directories are

    def read(self) -> bool | None:
        """Whether guests run under KVM; None when nobody has tried since the host booted."""
        try:
            verdict = json.loads(files.read(self._path, 4096))
        except (OSError, ValueError, RecursionError, Refused):
            return None
        if not isinstance(verdict, dict) or verdict.get("boot") != _boot_id():
            return None
        return verdict.get("works") is True

    def write(self, *, works: bool) -> None:
        """Keep a trial's verdict."""
        files.write(self._path, json.dumps({"boot": _boot_id(), "works": works}).encode(), durable=False)


def choose(wanted: str, verdict: Verdict) -> tuple[Accelerator, bool]:
    """The accelerator to use (`wanted`: auto, kvm or tcg), and whether this is the trial whose verdict is to be kept."""
    if wanted != "auto":
        return Accelerator(wanted), False
    if not openable():
        return Accelerator.TCG, False
    works = verdict.read()
    return Accelerator.TCG if works is False else Accelerator.KVM, works is None


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:  # noqa: PTH123 (on the way to every job's start)
        return file.read().strip()
