"""Runs one job in one machine that has been spawned: waits for it, starts the job, carries streams and signals, ends everything.

The contract is in docs/explanation/contract.md. This module is imported while the machine already boots.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from dayfly import inherited, process
from dayfly.errors import MachineFailed, Refused
from dayfly.job import signals
from dayfly.job.streams import Inlet, Outlet
from dayfly.job.terminal import CallersTerminal, size
from dayfly.machine.channel import INPUT_WINDOW, OUTPUT_WINDOW, Frame, FromGuest, ProtocolBroken, Stream, ToGuest
from dayfly.machine.ends import crashed, why
from dayfly.machine.events import Event
from dayfly.machine.guest.protocol import (
    Exited,
    Failed,
    StartProblem,
    encode_clock,
    encode_grant,
    parse_exited,
    parse_failed,
    parse_grant,
)
from dayfly.machine.machine import Machine, Remains, State
from dayfly.machine.spec import Accelerator, CpuModel
from dayfly.values import dataclass, replace

TIMED_OUT = 124
"""What a job that ran out of its --timeout exits with, like timeout(1)'s."""

_GRANT_STEP = 256 * 1024
_KILL_SECONDS = 5.0
_SAME_REQUEST_SECONDS = 1.0
_STALE_SECONDS = 0.12
"""A clone that takes longer to start its job, on a busy host, may have heard START late: the clock in that was old by then."""


@dataclass(frozen=True)
class Outcome:
    """How the job ended: what to exit with, in one word why, a line for the user (may be empty), and the agent's figures."""

    status: int
    reason: str
    message: str = ""
    hint: str = ""
    exited: Exited | None = None


class Run:
    """One job in one machine."""

    def __init__(
        self,
        machine: Machine,
        request: Callable[[], bytes],
        *,
        terminal: CallersTerminal | None,
        timeout: float | None,
        grace: float,
        up: Callable[[], None],
        started: Callable[[], None],
        keep: Callable[[Outcome], bool] = lambda _: False,
    ) -> None:
        """With `keep`, a machine whose job ended so is not switched off, and `kept` says that it can have another one."""
        self._machine = machine
        self._request = request
        self._terminal = terminal
        self._timeout = timeout
        self._grace = grace
        self._up = up
        self._tell_started = started
        self._keep = keep
        self.kept = False
        self._loop = asyncio.get_running_loop()
        self._outcome: asyncio.Future[Outcome] = self._loop.create_future()
        self._outlets: dict[int, Outlet] = {}
        self._open_outlets = 0
        self._drained = asyncio.Event()
        self._drained.set()
        self._owed = dict.fromkeys((Stream.STDOUT, Stream.STDERR), 0)
        self._credit = dict.fromkeys((Stream.STDOUT, Stream.STDERR), OUTPUT_WINDOW)
        self._inlet: Inlet | None = None
        self._started = False
        self._waiting_signals: list[signal.Signals] = []
        self._timed_out = False
        self._asked = 0
        self._first_term: float | None = None
        self._last_grace = False
        self._suspended = self._paused = False
        self._obeying = asyncio.Lock()
        self._obedience: asyncio.Task[None] | None = None
        self._lost_output: tuple[Stream, OSError] | None = None
        self._gave_up: signal.Signals | None = None
        self.times = machine.times
        self._while_starting = {FromGuest.STARTED: self._job_started, FromGuest.FAILED: self._failed}
        self._while_running = {
            FromGuest.DATA: self._data,
            FromGuest.END: self._stream_ended,
            FromGuest.GRANT: self._granted,
            FromGuest.CLOSED: self._stdin_closed,
            FromGuest.EXITED: self._exited,
            FromGuest.FAILED: self._failed,
        }

    async def outcome(self, boot_timeout: float) -> Outcome:
        """Run the job to its end. The machine still exists afterwards, and is the caller's to destroy.

        Raises `StartFailed` when the machine does not come up.
        """
        for number in signals.heeded(signals.HANDLED):
            self._loop.add_signal_handler(number, self._signalled, number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.HANDLED)
        booting = self._loop.create_task(self._machine.ready(boot_timeout))
        first: set[asyncio.Future[Any]] = {booting, self._outcome}
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if self._outcome.done():
            booting.cancel()
            return self._outcome.result()
        booting.result()
        self._up()
        ended = self._loop.create_task(self._watch())
        self._machine.on_event = self._told
        try:
            self._machine.listen(self._received)
            if self._machine.state is State.READY:
                self._machine.start(self._request())
        except ProtocolBroken as error:
            self._machine.broke(error)
        except Refused as error:
            self._finish(Outcome(error.exit_status, "not-started", error.message, error.hint))
        outcome = await self._outcome
        await self._drained.wait()
        ended.cancel()
        if self._inlet is not None and outcome.exited is not None:
            self._inlet.leave_unread(outcome.exited.bytes_in)
        return self._with_output(outcome)

    async def _watch(self) -> None:
        """A machine that ends before its job said that it ended: say why."""
        await self._machine.wait()
        self._finish(lost(self._machine, await self._machine.destroy()))

    def _finish(self, outcome: Outcome) -> None:
        """The first to say how the job ended is right. What the job wrote until then is still passed on."""
        self._end_outlets()
        if not self._outcome.done():
            self._outcome.set_result(outcome)

    def _told(self, event: Event) -> None:
        if event.name == "BLOCK_IO_ERROR":
            self._finish(
                Outcome(
                    125,
                    "scratch-full",
                    "the host could not store what the job wrote to its disk: the scratch folder is full",
                    "make room there, or name another folder as scratch.folder in the settings",
                )
            )

    # Frames from the guest

    def _received(self, frame: Frame) -> None:
        handler = (self._while_running if self._started else self._while_starting).get(frame.type)
        if handler is None:
            raise ProtocolBroken(f"the guest sent {frame.type.name} when it may not")
        handler(frame)

    def _job_started(self, _: Frame) -> None:
        self._started = True
        self.times["started"] = time.monotonic()
        if self.times["started"] - self.times.get("restored", self.times["started"]) > _STALE_SECONDS:
            self._machine.send(ToGuest.CLOCK, encode_clock(time.time_ns()))
        self._tell_started()
        self._open(Stream.STDOUT)
        if self._terminal is None:
            self._open(Stream.STDERR)
        else:
            self._terminal.take()
        self._inlet = Inlet(0, INPUT_WINDOW, self._stdin, self._at_terminal)
        if self._timeout is not None:
            self._loop.call_later(self._timeout, self._out_of_time)
        for number in self._waiting_signals:
            self._send_signal(number)

    def _open(self, stream: Stream) -> None:
        self._open_outlets += 1
        self._drained.clear()
        self._outlets[stream] = Outlet(
            int(stream),
            lambda written: self._passed_on(stream, written),
            lambda error: self._reader_gone(stream, error),
            self._outlet_ended,
        )

    def _data(self, frame: Frame) -> None:
        outlet = self._outlets.get(frame.stream)
        if outlet is None:
            raise ProtocolBroken("the guest sent data of a stream that has ended")
        self._credit[Stream(frame.stream)] -= len(frame.payload)
        if self._credit[Stream(frame.stream)] < 0:
            raise ProtocolBroken("the guest sent more than it was granted")
        self.times.setdefault("first_byte", time.monotonic())
        outlet.put(frame.payload)

    def _passed_on(self, stream: Stream, written: int) -> None:
        self._owed[stream] += written
        if self._owed[stream] >= _GRANT_STEP:
            self._machine.send(ToGuest.GRANT, encode_grant(self._owed[stream]), stream)
            self._credit[stream] += self._owed[stream]
            self._owed[stream] = 0

    def _reader_gone(self, stream: Stream, error: OSError) -> None:
        self._lost_output = self._lost_output or (stream, error)
        self._machine.send(ToGuest.CLOSED, stream=stream)

    def _stream_ended(self, frame: Frame) -> None:
        outlet = self._outlets.pop(frame.stream, None)
        if outlet is not None:
            outlet.end()

    def _end_outlets(self) -> None:
        for stream in list(self._outlets):
            self._outlets.pop(stream).end()

    def _outlet_ended(self) -> None:
        self._open_outlets -= 1
        if self._open_outlets == 0:
            self._drained.set()

    def _granted(self, frame: Frame) -> None:
        if self._inlet is not None:
            self._inlet.grant(parse_grant(frame.payload))

    def _stdin_closed(self, _: Frame) -> None:
        if self._inlet is not None:
            self._inlet.close()

    def _stdin(self, chunk: bytes) -> None:
        if self._outcome.done():
            return
        if chunk:
            self._machine.send(ToGuest.DATA, chunk, Stream.STDIN)
        else:
            self._machine.send(ToGuest.END, stream=Stream.STDIN)

    def _exited(self, frame: Frame) -> None:
        exited = parse_exited(frame.payload)
        self.times["exited"] = time.monotonic()
        outcome = self._judged(exited)
        self.kept = self._keep(outcome)
        if not self.kept:
            self._machine.send(ToGuest.DONE)
        self._finish(outcome)

    def _judged(self, exited: Exited) -> Outcome:
        """Why a job ended as it did."""
        if self._timed_out:
            message = f"the job was ended after {self._timeout:g} s, its --timeout or the policy's"
            return Outcome(TIMED_OUT, "timeout", message, exited=exited)
        if exited.oom_kills:
            message = f"the job ran out of memory: the guest killed {exited.oom_kills} of its processes"
            reason = "out-of-memory" if exited.status else "exit"
            return Outcome(exited.status, reason, message, "ask for more with --memory", exited)
        if self._asked and exited.signal == self._asked:
            return Outcome(exited.status, "cancelled", exited=exited)
        if exited.status == 128 + signal.SIGILL and self._machine.spec.cpu not in (CpuModel.HOST, CpuModel.HOST_REDUCED):
            return self._illegal(exited)
        return Outcome(exited.status, "signal" if exited.signal else "exit", exited=exited)

    def _illegal(self, exited: Exited) -> Outcome:
        """A job, or the last program of a shell's, died of an instruction that the machine's CPU may only lack."""
        spec = self._machine.spec
        by = ", emulated" if spec.accelerator is Accelerator.TCG else ""
        message = f"the job ended by an illegal instruction (SIGILL); its machine's CPU is {spec.cpu}{by}"
        hint = "nothing that is emulated has AVX-512: build without it, or use a host with KVM"
        if spec.cpu is not CpuModel.MAX:
            hint = "--cpu-model max has more instructions; AVX-512 needs a host with KVM"
        return Outcome(exited.status, "signal" if exited.signal else "exit", message, hint, exited)

    def _with_output(self, outcome: Outcome) -> Outcome:
        """The outcome, after all that the job wrote was passed on: a job whose output was lost has not ended well.

        Of a reader that went away a program hears by SIGPIPE; one that had written all before it could hear so ends as it would.
        """
        if self._gave_up is not None and outcome.status == 0:
            message = f"ended by {self._gave_up.name} before all of the job's output was written"
            return replace(outcome, status=128 + self._gave_up, reason="cancelled", message=message)
        if self._lost_output is None or outcome.exited is None or self._timed_out:
            return outcome
        stream, error = self._lost_output
        if error.errno == errno.EPIPE and not inherited.ignored(signal.SIGPIPE):
            if outcome.status != 0:
                return outcome
            died = replace(outcome.exited, code=0, signal=int(signal.SIGPIPE))
            return replace(outcome, status=died.status, reason="signal", exited=died)
        message = f"the job's {stream.name.lower()} cannot be written: {os.strerror(error.errno or 0)}"
        exited = replace(outcome.exited, signal=0)
        return Outcome(125, "output-lost", message, "some of the job's output is lost", exited)

    def _at_terminal(self) -> None:
        if self._terminal is not None and not self._outcome.done():
            self._terminal.take()

    def _failed(self, frame: Frame) -> None:
        failed = parse_failed(frame.payload)
        self._machine.send(ToGuest.DONE)
        self._finish(not_started(failed))

    # Signals, time, the terminal

    def _signalled(self, number: signal.Signals) -> None:
        if number in (signal.SIGTSTP, signal.SIGCONT):
            self._suspended = number == signal.SIGTSTP
            self._obedience = self._loop.create_task(self._obey())
        elif number == signal.SIGWINCH:
            if self._terminal is not None and self._started:
                self._machine.send(ToGuest.WINDOW, size(0).encode())
        elif self._outcome.done():
            self._give_up_output(number)
        elif self._started:
            self._send_signal(number)
        elif number in signals.ENDING:
            self._finish(ended_before(number))
        else:
            self._waiting_signals.append(number)

    def _give_up_output(self, number: signal.Signals) -> None:
        """The job has ended and only its output waits, for a reader that stalls: who ends us now does not want it."""
        if number in signals.ENDING and not self._drained.is_set():
            self._gave_up = number
            self._drained.set()

    def _send_signal(self, number: signal.Signals) -> None:
        if number in signals.ENDING:
            self._asked = number
        self._machine.send(ToGuest.SIGNAL, bytes([number]))
        if number == signal.SIGTERM:
            self._term_again()

    def _term_again(self) -> None:
        """A second TERM ends the job's machine when its grace is over, whatever the job or the guest makes of it.

        One that follows on the heels of the first is the same request: timeout(1) sends it to its child and to the whole group.
        """
        now = self._loop.time()
        if self._first_term is None:
            self._first_term = now
        elif now - self._first_term >= _SAME_REQUEST_SECONDS and not self._last_grace:
            self._last_grace = True
            self._loop.call_later(self._grace, self._end_by_term)

    def _end_by_term(self) -> None:
        message = f"the job did not end within {self._grace:g} s of a second TERM, and its machine was ended"
        self._finish(Outcome(128 + signal.SIGTERM, "cancelled", message))

    async def _obey(self) -> None:
        """Pause the machine, and stop this process, as the sender of TSTP expects of a process; or let the machine go on.

        Batch systems send CONT to jobs that nobody has suspended, before TERM; and CONT may come while QEMU still pauses.
        """
        try:
            async with self._obeying:
                if self._suspended and not self._paused:
                    await self._machine.pause()
                    self._paused = True
                if not self._suspended and self._paused:
                    await self._machine.resume()
                    self._paused = False
        except MachineFailed as error:
            self._finish(Outcome(125, "machine-failed", error.message, error.hint))
            return
        if self._suspended:
            if self._terminal is not None:
                self._terminal.give_back()
            os.kill(os.getpid(), signal.SIGSTOP)
            self._suspended = False  # CONT is what we went on by, and a second TSTP before it means nothing any more
        elif self._started:
            self._machine.send(ToGuest.CLOCK, encode_clock(time.time_ns()))
            self._send_signal(signal.SIGCONT)
            self._at_terminal()
            if self._inlet is not None:
                self._inlet.look_again()

    def _out_of_time(self) -> None:
        if not self._outcome.done():
            self._timed_out = True
            self._machine.send(ToGuest.SIGNAL, bytes([signal.SIGTERM]))
            self._loop.call_later(self._grace, self._kill)

    def _kill(self) -> None:
        if self._outcome.done():
            return
        self._machine.send(ToGuest.SIGNAL, bytes([signal.SIGKILL]))
        self._loop.call_later(_KILL_SECONDS, self._give_up)

    def _give_up(self) -> None:
        message = f"the job was ended after {self._timeout:g} s, its --timeout or the policy's; the guest did not answer any more"
        self._finish(Outcome(TIMED_OUT, "timeout", message))


def not_started(failed: Failed) -> Outcome:
    """What a START that the agent could not carry out means for the user."""
    status = {StartProblem.NOT_FOUND: 127, StartProblem.NOT_EXECUTABLE: 126}.get(failed.problem, 125)
    hint = {
        StartProblem.NOT_FOUND: "is it in the image, or in a shared folder?",
        StartProblem.DIRECTORY: "is the working directory shared? --share and --workdir say what the job sees",
        StartProblem.SHARE: "the kernel of a whole disk, which firmware boots, may lack 9p: --no-share does without it",
        StartProblem.RESOURCES: "ask for more with --memory",
    }.get(failed.problem, "")
    return Outcome(status, "not-started", failed.text or "the agent could not start the job", hint)


def ended_before(number: signal.Signals) -> Outcome:
    """A signal ended what there was of a job that had not started."""
    return Outcome(128 + number, "cancelled", f"ended by {number.name} before the job started")


def lost(machine: Machine, remains: Remains) -> Outcome:
    """Why a machine ended under its job."""
    if machine.broken is not None:
        return Outcome(125, "protocol", f"{machine.broken.message}; the machine was ended")
    console = machine.console_tail.splitlines()
    panic = [at for at, line in enumerate(console) if "Kernel panic" in line]
    if panic:
        said = "".join(f"\n  | {line}" for line in console[panic[-1] :][:12])
        return Outcome(125, "guest-panic", f"the guest's kernel panicked{said}")
    if remains.halted:
        return Outcome(125, "machine-halted", f"the machine stood still before the job ended: {remains.halted}")
    if remains.status >= 0 and remains.reason.startswith("guest-"):
        return Outcome(125, "guest-shutdown", "the machine was switched off from inside before the job ended")
    message, hint = why(remains.status, remains.complaints, remains.cpu, process.limits())
    killed = remains.status < 0 and not crashed(remains.status)
    return Outcome(125, "machine-killed" if killed else "machine-failed", message, hint)
