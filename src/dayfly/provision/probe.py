"""Where nobody knows yet whether KVM works, and with which CPU, a machine tries: a job's, or one of Dayfly's own."""

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
    """The ways to run a machine, the best first, of which the first that works is kept as the verdict."""

    def __init__(self, ways: tuple[Processor, ...], verdict: Verdict, notify: Notify) -> None:
        self._ways = ways
        self._verdict = verdict
        self._notify = notify
        self._is_one = len(ways) > 1
        self._said = ""

    @property
    def is_one(self) -> bool:
        """Whether it is not known yet which of several ways works."""
        return self._is_one

    @property
    def way(self) -> Processor:
        """The way that is to be tried now."""
        return self._ways[0]

    def seconds(self, boot_timeout: float) -> float:
        """How long a machine may take to be up: with KVM not long, where emulation would be next."""
        return accelerator.TRIAL_SECONDS if self._others() else boot_timeout

    def goes_on(self, error: StartFailed) -> bool:
        """After a machine that did not come up: whether there is another way to try.

        QEMU that ends at once may do so for the CPU. A guest that hangs would hang with another CPU too.
        """
        self._said = self._said or error.message
        left = {
            Part.QEMU: self._ways[1:],
            Part.KERNEL: self._others(),
        }.get(error.part, ())
        of_kvm = error.part in (Part.QEMU, Part.KERNEL) and self.way.accelerator is Accelerator.KVM
        if of_kvm and self._is_one and not left:
            self._verdict.write(Found(None, self._said))  # or each job that wants this CPU would find it out
        self._ways = left or self._ways
        return bool(left)

    def _others(self) -> tuple[Processor, ...]:
        """What is left that does without KVM."""
        return tuple(way for way in self._ways if way.accelerator is not self.way.accelerator)

    def succeeded(self) -> None:
        """The machine is up: keep that, and say what is less than was hoped for."""
        if not self._is_one:
            return
        cpu = self.way.cpu if self.way.accelerator is Accelerator.KVM else None
        self._verdict.write(Found(cpu, self._said))
        if cpu is None:
            self._notify(accelerator.NO_KVM)
        elif self._said:
            self._notify(f"guests cannot have the host's CPU on this host, and get {shown(cpu)} (`dayfly doctor` says more)")


def shown(cpu: CpuModel) -> str:
    """A CPU in words."""
    return "it without arch-capabilities" if cpu is CpuModel.HOST_REDUCED else str(cpu)


def begin(settings: Settings, cpu: CpuModel | None, notify: Notify) -> Probe:
    """The ways to run a machine on this host, with the CPU that is wanted (None: the settings').

    Raises `Refused` where that CPU cannot be had.
    """
    verdict = Verdict(settings.cache_folder, cpu or CpuModel(settings.machine_cpu_model))
    return Probe(accelerator.choose(settings.machine_accelerator, verdict), verdict, notify)


def tried(settings: Settings, attempt: Callable[[Processor, float], Made], notify: Notify) -> Made:
    """What `attempt` makes with the way to use, in a machine that is given so many seconds to be up.

    Where that way turns out not to work, once more by the next. Raises what `attempt` does.
    """
    trial = begin(settings, None, notify)
    while True:
        try:
            made = attempt(trial.way, trial.seconds(settings.machine_boot_timeout))
        except StartFailed as error:
            if not trial.goes_on(error):
                raise
        else:
            trial.succeeded()
            return made
