"""Work in a machine of Dayfly's own, where nobody knows yet whether KVM works: then this machine is the trial, as a job's is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from dayfly import process
from dayfly.machine import accelerator
from dayfly.machine.accelerator import Verdict
from dayfly.machine.machine import Part, StartFailed
from dayfly.machine.spec import Accelerator
from dayfly.settings import Settings

Made = TypeVar("Made")


def tried(settings: Settings, attempt: Callable[[Accelerator, float], Made]) -> Made:
    """What `attempt` makes with the accelerator to use, in a machine that is given so many seconds to be up.

    Where KVM turns out not to work, once more without. Raises what `attempt` does.
    """
    verdict = Verdict(settings.cache_folder)
    accelerated, trial = accelerator.choose(settings.machine_accelerator, verdict)
    if not trial:
        return attempt(accelerated, settings.machine_boot_timeout)
    try:
        made = attempt(accelerated, accelerator.TRIAL_SECONDS)
    except StartFailed as error:
        if error.part not in (Part.QEMU, Part.KERNEL):
            raise
        verdict.write(works=False)
        process.warn(accelerator.NO_KVM)
        return attempt(Accelerator.TCG, settings.machine_boot_timeout)
    verdict.write(works=True)
    return made
