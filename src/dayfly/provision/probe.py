"""The probe of KVM: if it is not known yet whether KVM works, and with which CPU, the next machine finds out: a job's, or one of
Dayfly's own.
"""

from __future__ import annotations

from collections.abc import Callable

from dayfly.machine.config import Accelerator, CpuModel, Processor
from dayfly.machine.failure import Part, StartFailed
from dayfly.notices import Notify
from dayfly.provision import accelerator
from dayfly.provision.accelerator import Found, Verdict
from dayfly.settings import Settings

TYPE_CHECKING = False  # typing's own costs an import at every start, and checkers know the name
if TYPE_CHECKING:
    from typing import TypeVar

    Made = TypeVar("Made")


class Probe:
    """The ways to run a machine, the best first. The first that works is stored as the result."""

    def __init__(self, ways: tuple[Processor, ...], verdict: Verdict, notify: Notify) -> None:
        self._ways = ways
        self._verdict = verdict
        self._notify = notify
        self._is_one = len(ways) > 1
        self._said = ""

    @property
    def is_one(self) -> bool:
        """Whether this machine is a probe: there are several ways, and it is not known yet which one works."""
        return self._is_one

    @property
    def way(self) -> Processor:
        """The way to try now."""
        return self._ways[0]

    def seconds(self, boot_timeout: float) -> float:
        """How long a machine may take to start: with KVM only a short time, if emulation is next."""
        return accelerator.TRIAL_SECONDS if self._others() else boot_timeout

    def goes_on(self, error: StartFailed) -> bool:
        """After a machine that did not start: whether there is another way to try.

        If QEMU exits at once, the reason may be the CPU. A guest that hangs would hang with another CPU too.
        """
        self._said = self._said or error.message
        left = {
            Part.QEMU: self._ways[1:],
            Part.KERNEL: self._others(),
        }.get(error.part, ())
        of_kvm = error.part in (Part.QEMU, Part.KERNEL) and self.way.accelerator is Accelerator.KVM
        if of_kvm and self._is_one and not left:
            self._verdict.write(Found(None, self._said))  # otherwise each job that wants this CPU would probe again
        self._ways = left or self._ways
        return bool(left)

    def _others(self) -> tuple[Processor, ...]:
        """The remaining ways without KVM."""
        return tuple(way for way in self._ways if way.accelerator is not self.way.accelerator)

    def succeeded(self) -> None:
        """The machine is up: store the result, and notify the user if it is not the best way."""
        if not self._is_one:
            return
        cpu = self.way.cpu if self.way.accelerator is Accelerator.KVM else None
        self._verdict.write(Found(cpu, self._said))
        if cpu is None:
            self._notify(accelerator.NO_KVM)
        elif self._said:
            self._notify(f"guests cannot use the host's CPU model on this host, and get {shown(cpu)} (see `dayfly doctor`)")


def shown(cpu: CpuModel) -> str:
    """A CPU model, for messages."""
    return "it without arch-capabilities" if cpu is CpuModel.HOST_REDUCED else str(cpu)


def begin(settings: Settings, cpu: CpuModel | None, notify: Notify) -> Probe:
    """The ways to run a machine on this host, with the requested CPU model (None: the settings').

    Raises `Refused` if that CPU is not possible.
    """
    verdict = Verdict(settings.cache_folder, cpu or CpuModel(settings.machine_cpu_model))
    return Probe(accelerator.choose(settings.machine_accelerator, verdict), verdict, notify)


def tried(settings: Settings, attempt: Callable[[Processor, float], Made], notify: Notify) -> Made:
    """The result of `attempt` with the first way that works; its second argument is the seconds for the machine to start.

    If a way does not work, the next one is tried. Raises what `attempt` does.
    """
    probe = begin(settings, None, notify)
    while True:
        try:
            made = attempt(probe.way, probe.seconds(settings.machine_boot_timeout))
        except StartFailed as error:
            if not probe.goes_on(error):
                raise
        else:
            probe.succeeded()
            return made
