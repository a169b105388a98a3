"""Starts a job from its description: the hot path. Nothing heavy is imported before QEMU runs.

The command line and the job shell call `run`: the job has this process's streams, signals and terminal.
"""

from __future__ import annotations

import gc
import signal
import sys
import time

from dayfly import principal, process
from dayfly.errors import DayflyError, MachineFailed, Refused
from dayfly.image.search import Libraries
from dayfly.job import signals
from dayfly.job.description import JobDescription
from dayfly.job.prepare import Prepared, permitted, plan_of, prepare
from dayfly.machine import ends, nesting
from dayfly.machine.qemu import Launched
from dayfly.machine.snapshot.restore import RestoreFailed, restored, started
from dayfly.notices import Notify
from dayfly.provision import image_failures, probe
from dayfly.provision.cold import start_cold
from dayfly.provision.plan import Plan
from dayfly.provision.templates.lookup import NoTemplate, Origin
from dayfly.provision.templates.selection import discard, obtain, start_clone
from dayfly.provision.templates.store import OpenTemplate
from dayfly.settings import Settings

TYPE_CHECKING = False  # typing's own costs an import at every start, and checkers know the name
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

    from dayfly.job.result import JobResult
    from dayfly.job.supervise import RecordListener


def run(description: JobDescription, settings: Settings, notify: Notify, told: RecordListener | None = None) -> JobResult:
    """Run a job in a fresh machine, in the foreground of this process. `told` gets its record when it starts and at its end.

    `signals.HELD` stay blocked afterwards: a caller with more work that these may end unblocks them. Raises `DayflyError` for
    errors of the job or its image; later errors are reported by `notify`, and in the record.
    """
    begun = time.monotonic()
    gc.disable()
    nesting.refuse()
    with Libraries(settings).open(description.image) as image:
        if image.notice:
            notify(image.notice)
        prepared = permitted(prepare(description, principal.current(), image, begun, notify), settings)
        process.raise_limits()
        trial = probe.begin(settings, description.cpu_model, notify)
        plan = plan_of(prepared, trial.way)
        signal.pthread_sigmask(signal.SIG_BLOCK, signals.HELD - signals.ENDING)
        for number in signals.heeded(signals.ENDING):
            signal.signal(number, _asked_to_end)
        try:
            if description.batch:
                image_failures.check(settings, image.digest)
            template = _template(plan, settings, cold=description.cold, trial=trial.is_one)
            signal.pthread_sigmask(signal.SIG_BLOCK, signals.ENDING)
            launched, origin = _machine(prepared, settings, plan, template)
        except (DayflyError, OSError) as error:
            from dayfly.job.supervise import Audience, not_up  # noqa: PLC0415 (heavy)

            return not_up(prepared, settings, error, trial.way, Audience(notify, told))
        except _AskedToEnd as asked:
            from dayfly.job.supervise import Audience, cancelled  # noqa: PLC0415 (heavy)

            return cancelled(prepared, settings, asked.number, Audience(notify, told))

        from dayfly.job.foreground import supervised  # noqa: PLC0415 (heavy: imported while the machine starts)

        return supervised(prepared, settings, launched, origin, trial, notify, told)


class _AskedToEnd(KeyboardInterrupt):
    """A signal requested the end of a job that has no machine yet.

    Only this kind of exception, or SystemExit, passes through asyncio from any place.
    """

    def __init__(self, number: signal.Signals) -> None:
        super().__init__()
        self.number = number


def _asked_to_end(number: int, _: FrameType | None) -> NoReturn:
    signal.pthread_sigmask(signal.SIG_BLOCK, signals.ENDING)  # cleanup must not be interrupted
    raise _AskedToEnd(signal.Signals(number))


def _import_the_rest() -> None:
    """Import what runs the job while QEMU starts and restores: there is nothing else to do for the job then, and once the guest
    runs it needs all of the host's CPUs.

    asyncio works without `ssl`, which is not needed here: OpenSSL is a fifth of asyncio's import.
    """
    hidden = "ssl" not in sys.modules
    if hidden:
        sys.modules["ssl"] = None  # type: ignore[assignment]  # makes its import fail
    try:
        import dayfly.job.foreground  # noqa: F401, PLC0415 (heavy)
    finally:
        if hidden:
            del sys.modules["ssl"]


def _template(plan: Plan, settings: Settings, *, cold: bool, trial: bool) -> OpenTemplate | NoTemplate:
    if trial:
        return NoTemplate("this is the probe of KVM")
    return NoTemplate("requested") if cold else obtain(plan, settings)


def _machine(prepared: Prepared, settings: Settings, plan: Plan, template: OpenTemplate | NoTemplate) -> tuple[Launched, Origin]:
    """The job's machine: a clone of the template that already has its job, or a cold one."""
    if isinstance(template, NoTemplate):
        launched = start_cold(plan, settings)
        _import_the_rest()
        return launched, Origin(cold_reason=template.reason)
    try:
        launched = start_clone(plan, settings, template)
        _import_the_rest()

        from dayfly.job.request import request  # noqa: PLC0415 (heavy: imported while the machine starts)

        clone, origin = restored(launched), Origin(template.name, template.about.qemu)
        try:
            return started(clone, request(prepared).encode()), origin
        except Refused:  # is found again, and reported, by the supervisor of the job
            return clone, origin
    except RestoreFailed as error:
        limit = ends.behind(error.message, prepared.limits)
        if limit:  # the caller's limit, not the template's fault
            raise MachineFailed(error.message, limit) from error
        discard(template, error.message, settings)
        return start_cold(plan, settings), Origin(cold_reason=error.message)
    finally:
        template.close()
