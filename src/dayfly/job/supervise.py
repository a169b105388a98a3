"""Supervises a job in its started machine, and writes its usage record."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator

from dayfly.errors import Corrupt, DayflyError, MachineFailed, NotFound, Refused, in_words
from dayfly.image.library import OpenImage
from dayfly.job.frontend import Frontend
from dayfly.job.prepare import Prepared, plan_of
from dayfly.job.records import Records
from dayfly.job.request import request
from dayfly.job.result import JobResult
from dayfly.job.run import Outcome, Run, ended_before
from dayfly.job.usage import End, ImageUsed, MachineUsed, UsageRecord, Used, shortened
from dayfly.machine import ends
from dayfly.machine.config import Processor
from dayfly.machine.failure import ExitInfo, StartFailed
from dayfly.machine.machine import Machine
from dayfly.machine.qemu import Launched
from dayfly.notices import Notify
from dayfly.provision.cold import start_cold
from dayfly.provision.probe import Probe
from dayfly.provision.templates.lookup import Origin
from dayfly.settings import Settings
from dayfly.units import timestamp
from dayfly.values import dataclass, replace

RecordListener = Callable[[UsageRecord], None]
"""Called with a job's record when the job starts (with the state `running`), and when it has ended. Never raises."""


@dataclass(frozen=True)
class Audience:
    """The receivers of a job's record and of notices for the user."""

    notify: Notify
    told: RecordListener | None = None


def not_up(prepared: Prepared, settings: Settings, error: DayflyError | OSError, tried: Processor, to: Audience) -> JobResult:
    """The result of a job for which no machine or template could be started."""
    if isinstance(error, OSError):
        words = in_words(error)
        limit = ends.behind(words, prepared.limits)
        error = DayflyError(words, limit or "`dayfly doctor` checks the folders that Dayfly uses")
    record = _begun(prepared, Origin(cold_reason="no template could be made"))
    if isinstance(error, MachineFailed):
        record = replace(record, machine=_by(record.machine, tried))
    outcome, record = _not_up(record, error)
    if isinstance(error, StartFailed):
        with _never_fatal("the console could not be saved", to.notify):
            console = Records(settings.records_folder).open_console(record)
            os.write(console, error.tail.encode())
            os.close(console)
    return _result(prepared, settings, outcome, record, to)


def cancelled(prepared: Prepared, settings: Settings, number: signal.Signals, to: Audience) -> JobResult:
    """The result of a job that was ended while its template was made or waited for."""
    outcome = ended_before(number)
    record = _begun(prepared, Origin(cold_reason="no template was made"))
    return _result(prepared, settings, outcome, replace(record, state="ended", end=_end(outcome)), to)


async def supervise(
    prepared: Prepared,
    settings: Settings,
    launched: Launched,
    origin: Origin,
    trial: Probe,
    frontend: Frontend,
    to: Audience,
) -> JobResult:
    """Run the job in the machine that was started for it.

    If it is not known yet whether KVM works here, this machine is the `trial`'s probe; if KVM does not work, the job gets
    another machine.
    """
    supervisor = _Supervisor(prepared, settings, origin, trial, frontend, to)
    outcome, record = await supervisor.run(launched)
    result = _result(prepared, settings, outcome, record, to)
    return replace(result, captured=supervisor.captured, job_status=supervisor.job_status)


def _image_used(image: OpenImage) -> ImageUsed:
    came, vouched = ", ".join(image.provenance.origins), ", ".join(image.provenance.endorsers)
    return ImageUsed(image.name, image.digest, str(image.library), came, vouched)


def _not_up(record: UsageRecord, error: DayflyError) -> tuple[Outcome, UsageRecord]:
    outcome = Outcome(error.exit_status, _reason(error), error.message, error.hint)
    return outcome, replace(record, state="ended", end=_end(outcome))


def _reason(error: DayflyError) -> str:
    """Why there is no machine, in one word: the part of it that failed to start, the request, or else the host."""
    if isinstance(error, StartFailed):
        return f"{error.part.name.lower()}-failed"
    if isinstance(error, MachineFailed):
        return "qemu-failed"
    return "not-started" if isinstance(error, (Refused, NotFound, Corrupt)) else "host-failed"


def _result(prepared: Prepared, settings: Settings, outcome: Outcome, record: UsageRecord, to: Audience) -> JobResult:
    """Report to the user and write to the record how the job ended."""
    if outcome.message:
        to.notify(outcome.message + (f" ({outcome.hint})" if outcome.hint else ""))
    with _never_fatal("the usage record could not be written", to.notify):
        Records(settings.records_folder).write(record)
    if to.told is not None:
        to.told(record)
    status = outcome.status
    if prepared.description.as_signal and outcome.exited is not None and outcome.exited.signal:
        status = -outcome.exited.signal
    return JobResult(status, record, outcome.status)


class _Supervisor:
    def __init__(
        self, prepared: Prepared, settings: Settings, origin: Origin, trial: Probe, frontend: Frontend, to: Audience
    ) -> None:
        self._prepared = prepared
        self._settings = settings
        self._trial = trial
        self._frontend = frontend
        self._to = to
        self._record = _begun(prepared, origin)
        self._records = Records(settings.records_folder)
        self.captured = ""
        self.job_status = 125

    async def run(self, launched: Launched) -> tuple[Outcome, UsageRecord]:
        try:
            return await self._tried(launched)
        finally:
            self._frontend.ended()

    async def _tried(self, launched: Launched) -> tuple[Outcome, UsageRecord]:
        timeout = self._settings.machine_boot_timeout
        slow = self._prepared.boot.by_firmware  # its kernel reports nothing before the whole system is up
        while True:
            try:
                return await self._in(launched, timeout if slow else self._trial.seconds(timeout))
            except StartFailed as error:
                if not self._trial.goes_on(error):
                    return _not_up(self._record, error)
            launched = start_cold(plan_of(self._prepared, self._trial.way), self._settings)

    def _started(self, machine: Machine) -> None:
        if self._to.told is not None:
            self._to.told(replace(self._record, phases=_phases(self._prepared.begun, machine.times)))

    def _is_captured(self, outcome: Outcome) -> bool:
        """Whether the files of a machine with this outcome are to be captured."""
        capture = self._prepared.description.capture
        return capture is not None and (outcome.status == 0 or capture.failed_too)

    async def _capture(self, machine: Machine, outcome: Outcome) -> Outcome:
        from dayfly.job.capture import attempt  # noqa: PLC0415 (not for most jobs)

        after = await attempt(machine, self._prepared, outcome, self._frontend)
        self.captured = self._prepared.image.digest if after is outcome else ""
        return after

    async def _in(self, launched: Launched, boot_timeout: float) -> tuple[Outcome, UsageRecord]:
        """Run the job in this machine. The machine is gone when this returns or raises."""
        config = launched.config
        record = replace(
            self._record,
            machine=replace(_by(self._record.machine, Processor(config.accelerator, config.cpu)), pid=launched.child.pid),
        )
        console = None
        with _never_fatal("the usage record could not be created", self._to.notify):
            self._records.write(record)
            console = self._records.open_console(record)
        self._record = record
        try:
            async with Machine(launched, console) as machine:
                run = Run(
                    machine,
                    lambda: request(self._prepared).encode(),
                    self._frontend,
                    timeout=self._prepared.description.timeout,
                    grace=self._settings.job_grace,
                    up=self._trial.succeeded,
                    started=lambda: self._started(machine),
                    keep=self._is_captured,
                )
                outcome = await run.outcome(boot_timeout)
                self.job_status = outcome.status
                if run.kept:
                    self._frontend.ended()
                    outcome = await self._capture(machine, outcome)
                exit_info = await machine.destroy()
        finally:
            self._frontend.detach()
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
def _never_fatal(what: str, notify: Notify) -> Iterator[None]:
    """Failures to write a record are only reported: a job's exit status must not be lost because of one."""
    try:
        yield
    except (OSError, DayflyError) as error:
        notify(f"{what}: {in_words(error)}")
