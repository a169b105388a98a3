"""The other half of a job's way: what runs beside the booting and working machine, and writes down what became of it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator

from dayfly import process
from dayfly.errors import Corrupt, DayflyError, MachineFailed, NotFound, Refused, in_words
from dayfly.image.library import OpenImage
from dayfly.job import signals
from dayfly.job.foreground import Foreground
from dayfly.job.prepare import Prepared, plan_of
from dayfly.job.request import request
from dayfly.job.run import Outcome, Run, ended_before
from dayfly.job.usage import End, ImageUsed, MachineUsed, Records, UsageRecord, Used, shortened
from dayfly.machine import ends
from dayfly.machine.config import Processor
from dayfly.machine.machine import ExitInfo, Machine, StartFailed
from dayfly.machine.qemu import Launched
from dayfly.provision.plan import start_cold
from dayfly.provision.probe import Trial
from dayfly.provision.templates.selection import Origin
from dayfly.settings import Settings
from dayfly.units import timestamp
from dayfly.values import replace

Told = Callable[[UsageRecord], None]
"""Who hears of a job's record when the job starts (with the state `running`), and when it has ended. Raises nothing."""


def supervise(prepared: Prepared, settings: Settings, launched: Launched, origin: Origin, trial: Trial, told: Told | None) -> int:
    """Run the job in the machine that was spawned for it; returns what to exit with.

    By the `trial` the machine shows whether KVM works here, where nobody knows; where not, the job gets another machine.
    """
    with contextlib.ExitStack() as until_the_end:
        outcome, record = asyncio.run(_Supervisor(prepared, settings, origin, trial, until_the_end, told).run(launched))
    return _told(prepared, settings, outcome, record, told)


def not_up(prepared: Prepared, settings: Settings, error: DayflyError | OSError, tried: Processor, told: Told | None) -> int:
    """A job for which no machine could be spawned, or not even a template came up; returns what to exit with."""
    if isinstance(error, OSError):
        words = in_words(error)
        limit = ends.behind(words, prepared.limits)
        error = DayflyError(words, limit or "`dayfly doctor` checks the folders that Dayfly uses")
    record = _begun(prepared, Origin(cold_reason="no template could be made"))
    if isinstance(error, MachineFailed):
        record = replace(record, machine=_by(record.machine, tried))
    outcome, record = _not_up(record, error)
    if isinstance(error, StartFailed):
        with _never_fatal("the console could not be kept"):
            console = Records(settings.records_folder).open_console(record)
            os.write(console, error.tail.encode())
            os.close(console)
    return _told(prepared, settings, outcome, record, told)


def cancelled(prepared: Prepared, settings: Settings, number: signal.Signals, told: Told | None) -> int:
    """A job that was asked to end while its template was made or waited for; returns what to exit with."""
    outcome = ended_before(number)
    record = _begun(prepared, Origin(cold_reason="no template was made"))
    return _told(prepared, settings, outcome, replace(record, state="ended", end=_end(outcome)), told)


def _image_used(image: OpenImage) -> ImageUsed:
    came, vouched = ", ".join(image.standing.origins), ", ".join(image.standing.endorsers)
    return ImageUsed(image.name, image.digest, str(image.library), came, vouched)


def _not_up(record: UsageRecord, error: DayflyError) -> tuple[Outcome, UsageRecord]:
    outcome = Outcome(error.exit_status, _reason(error), error.message, error.hint)
    return outcome, replace(record, state="ended", end=_end(outcome))


def _reason(error: DayflyError) -> str:
    """Why there is no machine, in one word: the part of it that did not come up, what was asked for, or else the host."""
    if isinstance(error, StartFailed):
        return f"{error.part.name.lower()}-failed"
    if isinstance(error, MachineFailed):
        return "qemu-failed"
    return "not-started" if isinstance(error, (Refused, NotFound, Corrupt)) else "host-failed"


def _told(prepared: Prepared, settings: Settings, outcome: Outcome, record: UsageRecord, told: Told | None) -> int:
    """Tell the user and the record how the job ended; what to exit with."""
    if outcome.message:
        process.warn(outcome.message + (f" ({outcome.hint})" if outcome.hint else ""))
    with _never_fatal("the usage record could not be written"):
        Records(settings.records_folder).write(record)
    if told is not None:
        told(record)
    if prepared.description.as_signal and outcome.exited is not None and outcome.exited.signal:
        return -outcome.exited.signal
    return outcome.status


class _Supervisor:
    def __init__(
        self,
        prepared: Prepared,
        settings: Settings,
        origin: Origin,
        trial: Trial,
        until_the_end: contextlib.ExitStack,
        told: Told | None,
    ) -> None:
        self._told = told
        self._prepared = prepared
        self._settings = settings
        self._trial = trial
        self._until_the_end = until_the_end
        self._record = _begun(prepared, origin)
        self._records = Records(settings.records_folder)

    async def run(self, launched: Launched) -> tuple[Outcome, UsageRecord]:
        timeout = self._settings.machine_boot_timeout
        slow = self._prepared.boot.by_firmware  # nothing is heard of its kernel before all of its system is up
        while True:
            try:
                return await self._in(launched, timeout if slow else self._trial.seconds(timeout))
            except StartFailed as error:
                if not self._trial.goes_on(error):
                    return _not_up(self._record, error)
            launched = start_cold(plan_of(self._prepared, self._trial.way), self._settings)

    def _started(self, machine: Machine) -> None:
        """The job runs. Until now Ctrl-C ended the waiting; from now on the terminal is the job's."""
        gc.freeze()  # what was imported is no garbage
        gc.enable()  # which `start` has switched off for as long as nothing but imports happens
        if self._told is not None:
            self._told(replace(self._record, phases=_phases(self._prepared.begun, machine.times)))

    def _is_captured(self, outcome: Outcome) -> bool:
        """Whether the files of a machine whose job ended so are wanted."""
        capture = self._prepared.description.capture
        if capture is None:
            return False
        capture.failed = outcome.status != 0 and not capture.failed_too
        return not capture.failed

    async def _captured(self, machine: Machine, outcome: Outcome) -> Outcome:
        from dayfly.job.capture import attempt  # noqa: PLC0415 (most jobs do without it)

        self._until_the_end.close()  # the terminal is the user's again
        return await attempt(machine, self._prepared, outcome)

    async def _in(self, launched: Launched, boot_timeout: float) -> tuple[Outcome, UsageRecord]:
        """Run the job in this machine. The machine is gone when this returns or raises."""
        config = launched.config
        record = replace(
            self._record,
            machine=replace(_by(self._record.machine, Processor(config.accelerator, config.cpu)), pid=launched.child.pid),
        )
        console = None
        with _never_fatal("the usage record could not be begun"):
            self._records.write(record)
            console = self._records.open_console(record)
        self._record = record
        try:
            async with Machine(launched, console) as machine:
                frontend = Foreground(terminal=self._prepared.terminal)
                self._until_the_end.callback(frontend.give_terminal_back)
                run = Run(
                    machine,
                    lambda: request(self._prepared).encode(),
                    frontend,
                    timeout=self._prepared.description.timeout,
                    grace=self._settings.job_grace,
                    up=self._trial.succeeded,
                    started=lambda: self._started(machine),
                    keep=self._is_captured,
                )
                outcome = await run.outcome(boot_timeout)
                if run.kept:
                    outcome = await self._captured(machine, outcome)
                exit_info = await machine.destroy()
        finally:
            # Or one more of them ends us when the loop has taken its handlers with it, before the record is written.
            signal.pthread_sigmask(signal.SIG_BLOCK, signals.HELD)
            if console is not None:
                os.close(console)
        times = {**machine.times, "gone": time.monotonic()}
        return outcome, _ended(record, self._prepared.begun, times, outcome, exit_info, machine.qemu_version)


def _by(machine: MachineUsed, way: Processor) -> MachineUsed:
    return replace(machine, accelerator=str(way.accelerator), cpu_model=str(way.cpu))


def _begun(prepared: Prepared, origin: Origin) -> UsageRecord:
    description = prepared.description
    return UsageRecord(
        id=prepared.identity,
        state="running",
        begun=timestamp(prepared.begun_at),
        host=os.uname().nodename,
        uid=prepared.principal.uid,
        user=prepared.principal.name(),
        command=shortened(prepared.command),
        directory=prepared.directory,
        image=_image_used(prepared.image),
        machine=MachineUsed(
            cpus=description.shape.cpus,
            memory=description.shape.memory,
            scratch=description.scratch,
            accelerator="",
            cpu_model="",
            boot=str(prepared.boot),
            start="template" if origin.template else "cold",
            network=str(description.network),
            qemu=origin.qemu,
            template=origin.template,
            cold_reason=origin.cold_reason,
        ),
        name=description.name,
        batch=description.batch,
    )


def _ended(
    record: UsageRecord, begun: float, times: dict[str, float], outcome: Outcome, exit_info: ExitInfo, qemu: str
) -> UsageRecord:
    exited = outcome.exited
    own = resource.getrusage(resource.RUSAGE_SELF)
    cpu_host = round(exit_info.cpu + own.ru_utime + own.ru_stime, 6)
    used = Used(cpu_host=cpu_host)
    if exited is not None:
        used = Used(exited.cpu_user, exited.cpu_system, cpu_host, exited.peak_memory or None, exited.bytes_in, exited.bytes_out)
    return replace(
        record,
        state="ended",
        machine=replace(record.machine, qemu=qemu or record.machine.qemu, pid=0),
        phases=_phases(begun, times),
        used=used,
        end=_end(outcome),
    )


def _phases(begun: float, times: dict[str, float]) -> dict[str, float]:
    return {name: round(at - begun, 6) for name, at in sorted(times.items(), key=lambda item: item[1])}


def _end(outcome: Outcome) -> End:
    return End(outcome.status, outcome.reason, outcome.message)


@contextlib.contextmanager
def _never_fatal(what: str) -> Iterator[None]:
    """Records are kept as well as can be; a job's exit status is not lost over one."""
    try:
        yield
    except (OSError, DayflyError) as error:
        sys.stdout.flush()
        process.warn(f"{what}: {in_words(error)}")
