"""The choice of the accelerator, KVM or emulation (TCG), and of the CPU model.

That `/dev/kvm` can be opened does not mean that a guest runs: nested in another hypervisor it may hang at its first instruction,
or QEMU may not be able to give it the host's CPU. Therefore the first machine on a host is a probe, and its result is stored
until the host boots again.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from dayfly import disknames, files
from dayfly.errors import Refused
from dayfly.machine.config import Accelerator, CpuModel, Processor
from dayfly.values import dataclass

KVM_DEVICE = "/dev/kvm"
TRIAL_SECONDS = 10.0
"""With KVM the kernel is up in about one second; a probe that takes this long has failed."""

NO_KVM = "guests do not run under KVM on this host: machines are emulated (see `dayfly doctor`)"
"""The notice after a failed probe."""

_HOSTS = (CpuModel.HOST, CpuModel.HOST_REDUCED)
_UNDER_KVM = {
    CpuModel.AUTO: (*_HOSTS, CpuModel.V3, CpuModel.V2),
    CpuModel.V2: (CpuModel.V2,),
    CpuModel.V3: (CpuModel.V3,),
    CpuModel.MAX: (*_HOSTS, CpuModel.V3, CpuModel.V2),
    CpuModel.HOST: _HOSTS,
}
"""The CPU models to try for each requested one, the best first."""
EMULATED = {
    CpuModel.AUTO: CpuModel.V3,
    CpuModel.V2: CpuModel.V2,
    CpuModel.V3: CpuModel.V3,
    CpuModel.MAX: CpuModel.MAX,
}
"""The emulated CPU for each requested model (docs/decisions/0160). The host's own CPU cannot be emulated."""
_LIMIT = 16 * 1024
_SAID_LIMIT = 1024


def openable() -> bool:
    """Whether this user may open the KVM device."""
    return os.access(KVM_DEVICE, os.R_OK | os.W_OK)


@dataclass(frozen=True)
class Found:
    """The result of a probe: the CPU that a guest runs with under KVM, or None; and QEMU's message about the first that
    failed.
    """

    cpu: CpuModel | None
    said: str = ""


class Verdict:
    """The stored result of the probe on this host since it booted, for one requested CPU model."""

    def __init__(self, cache: Path, wanted: CpuModel) -> None:
        self.wanted = wanted
        host = os.uname().nodename  # several hosts may share the cache, as home directories are
        self._path = cache / disknames.KVM_VERDICT.format(host=host, cpu=wanted)

    def read(self) -> Found | None:
        """The result; None if there was no probe since the host booted.

        If no guest runs under KVM with any CPU, none runs with this one.
        """
        found = self._read()
        if found is None and self.wanted is not CpuModel.AUTO:
            of_any = Verdict(self._path.parent, CpuModel.AUTO)._read()
            found = of_any if of_any is not None and of_any.cpu is None else None
        return found

    def _read(self) -> Found | None:
        try:
            verdict = json.loads(files.read(self._path, _LIMIT))
        except (OSError, ValueError, RecursionError, Refused):
            return None
        if not isinstance(verdict, dict) or verdict.get("boot") != _boot_id():
            return None
        said = str(verdict.get("said", ""))
        return Found(next((cpu for cpu in _UNDER_KVM[self.wanted] if cpu == verdict.get("cpu")), None), said)

    def write(self, found: Found) -> None:
        """Store the result of a probe."""
        verdict = {"boot": _boot_id(), "cpu": found.cpu or "", "said": found.said[:_SAID_LIMIT]}
        files.write(self._path, json.dumps(verdict).encode(), durable=False)


def choose(accelerator: str, verdict: Verdict) -> tuple[Processor, ...]:
    """The ways to run a machine, the best first (`accelerator`: auto, kvm or tcg).

    If there are several, this machine is the probe whose result is to be stored. Raises `Refused` if the requested CPU model
    is not possible.
    """
    wanted = verdict.wanted
    kvm = tuple(Processor(Accelerator.KVM, cpu) for cpu in _UNDER_KVM[wanted])
    if accelerator == Accelerator.TCG:
        return _emulated(wanted, "machine.accelerator is tcg")
    if not openable():
        return kvm[:1] if accelerator == Accelerator.KVM else _emulated(wanted, f"{KVM_DEVICE} cannot be used")
    found = verdict.read()
    if found is not None and found.cpu is not None:
        return (Processor(Accelerator.KVM, found.cpu),)
    if accelerator == Accelerator.KVM:
        return kvm
    if found is not None:
        return _emulated(wanted, "guests do not run under KVM")
    return (*kvm, *(Processor(Accelerator.TCG, EMULATED[cpu]) for cpu in EMULATED if cpu == wanted))


def _emulated(wanted: CpuModel, why: str) -> tuple[Processor]:
    if wanted not in EMULATED:
        raise Refused(f"the CPU model {wanted} needs KVM, but {why} on this host", "max is the best emulated one")
    return (Processor(Accelerator.TCG, EMULATED[wanted]),)


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:  # noqa: PTH123 (on the way to every job's start)
        return file.read().strip()
