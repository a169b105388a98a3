"""Runs one job in a started machine: waits for the machine, starts the job, passes its streams, determines how it ended.

The contract is in docs/explanation/contract.md. This module is imported while the machine already boots. Several jobs can run in
one event loop: the signals and the terminal of the process belong to the frontend.
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
from dayfly.errors import Refused
from dayfly.guest.frames import INPUT_WINDOW, ProtocolBroken, Stream
from dayfly.guest.protocol import Exited, WindowSize
from dayfly.guest.session import NotStarted, Receiver, Session
from dayfly.job import signals
from dayfly.job.control import Control
from dayfly.job.frontend import Frontend, Input, Output
from dayfly.machine.config import Accelerator, CpuModel
from dayfly.machine.events import Event
from dayfly.machine.machine import Machine, State
from dayfly.values import dataclass, replace

TIMED_OUT = 124
"""The exit status of a job that exceeded its --timeout, as with timeout(1)."""

_KILL_SECONDS = 5.0
_SAME_REQUEST_SECONDS = 1.0
_STALE_SECONDS = 0.12
"""Seconds. A clone that takes longer to start its job, on a busy host, may have read START late, when its clock was out
of date.
"""


@dataclass(frozen=True)
class Outcome:
    """How the job ended: the exit status, the reason in one word, a message for the user (may be empty), and the agent's
    figures.
    """

    status: int
    reason: str
    message: str = ""
    hint: str = ""
    exited: Exited | None = None


class Run(Receiver, Control):
    """One job in one machine."""

    def __init__(
        self,
        machine: Machine,
        request: Callable[[], bytes],
        frontend: Frontend,
        *,
        timeout: float | None,
        grace: float,
        up: Callable[[], None],
        started: Callable[[], None],
        keep: Callable[[Outcome], bool] = lambda _: False,
    ) -> None:
        """With `keep`, a machine whose job ended so is not switched off, and `kept` says that it can have another one."""
        self._machine = machine
        self._session = Session(machine, self)
        self._request = request
        self._frontend = frontend
        self._timeout = timeout
        self._grace = grace
        self._up = up
        self._tell_started = started
        self._keep = keep
        self.kept = False
        self._loop = asyncio.get_running_loop()
        self._outcome: asyncio.Future[Outcome] = self._loop.create_future()
        self._outputs: dict[Stream, Output] = {}
        self._open_outputs = 0
        self._drained = asyncio.Event()
        self._drained.set()
        self._input: Input | None = None
        self._waiting_signals: list[signal.Signals] = []
        self._timed_out = False
        self._asked = 0
        self._first_term: float | None = None
        self._last_grace = False
        self._lost_output: tuple[Stream, OSError] | None = None
        self._gave_up: signal.Signals | None = None
        self.times = machine.times

    async def outcome(self, boot_timeout: float) -> Outcome:
        """Run the job to its end. The machine still exists afterwards; the caller destroys it.

        Raises `StartFailed` if the machine does not start.
        """
        self._frontend.attach(self)
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
            self._session.listen()
            if self._machine.state is State.READY:
                self._session.start(self._request())
        except ProtocolBroken as error:
            self._machine.broke(error)
        except Refused as error:
            self._finish(Outcome(error.exit_status, "not-started", error.message, error.hint))
        outcome = await self._outcome
        await self._drained.wait()
        ended.cancel()
        if self._input is not None and outcome.exited is not None:
            self._input.leave_unread(outcome.exited.bytes_in)
        return self._with_output(outcome)

    async def _watch(self) -> None:
        """If the machine ends before its job, find out why."""
        await self._machine.wait()
        await self._machine.destroy()
        loss = self._machine.loss(process.limits())
        self._finish(Outcome(125, loss.reason, loss.message, loss.hint))

    def _finish(self, outcome: Outcome) -> None:
        """Set the outcome; the first one counts. Output that was written until then is still passed on."""
        for stream in list(self._outputs):
            self.output_ended(stream)
        self.is_over = True
        if not self._outcome.done():
            self._outcome.set_result(outcome)

    def _told(self, event: Event) -> None:
        if event.name == "BLOCK_IO_ERROR":
            self._finish(
                Outcome(
                    125,
                    "scratch-full",
                    "the host could not store what the job wrote to its disk: the scratch folder is full",
                    "make room there, or set scratch.folder in the settings to another folder",
                )
            )

    # Events from the guest

    def started(self) -> None:
        """The job runs."""
        self.is_started = True
        self.times["started"] = time.monotonic()
        if self.times["started"] - self.times.get("restored", self.times["started"]) > _STALE_SECONDS:
            self._session.set_clock()
        self._tell_started()
        self._open(Stream.STDOUT)
        if self._frontend.has_stderr:
            self._open(Stream.STDERR)
        self._frontend.started()
        self._input = self._frontend.input(INPUT_WINDOW, self._read)
        if self._timeout is not None:
            self._loop.call_later(self._timeout, self._out_of_time)
        for number in self._waiting_signals:
            self._send_signal(number)

    def _open(self, stream: Stream) -> None:
        self._open_outputs += 1
        self._drained.clear()
        self._outputs[stream] = self._frontend.output(
            stream,
            lambda written: self._session.consumed(stream, written),
            lambda error: self._reader_gone(stream, error),
            self._output_written,
        )

    def output(self, stream: Stream, chunk: bytes) -> None:
        """The job wrote output."""
        if stream not in self._outputs:
            raise ProtocolBroken("the guest sent data of a stream that has ended")
        self.times.setdefault("first_byte", time.monotonic())
        self._outputs[stream].put(chunk)

    def _reader_gone(self, stream: Stream, error: OSError) -> None:
        self._lost_output = self._lost_output or (stream, error)
        self._session.refuse_output(stream)

    def output_ended(self, stream: Stream) -> None:
        """This stream of the job has ended."""
        output = self._outputs.pop(stream, None)
        if output is not None:
            output.end()

    def _output_written(self) -> None:
        self._open_outputs -= 1
        if self._open_outputs == 0:
            self._drained.set()

    def input_granted(self, size: int) -> None:
        """The job accepts so many more bytes."""
        if self._input is not None:
            self._input.grant(size)

    def input_closed(self) -> None:
        """The job reads no more."""
        if self._input is not None:
            self._input.close()

    def _read(self, chunk: bytes) -> None:
        if not self._outcome.done():
            self._session.write(chunk)

    def exited(self, exited: Exited) -> None:
        """The job has ended."""
        self.times["exited"] = time.monotonic()
        outcome = self._judged(exited)
        self.kept = self._keep(outcome)
        if not self.kept:
            self._session.done()
        self._finish(outcome)

    def failed(self, error: NotStarted) -> None:
        """The job could not be started."""
        self._session.done()
        self._finish(Outcome(error.exit_status, "not-started", error.message, error.hint))

    def _judged(self, exited: Exited) -> Outcome:
        """The outcome of a job that ended."""
        if self._timed_out:
            message = f"the job was ended after {self._timeout:g} s, its --timeout or the policy's"
            return Outcome(TIMED_OUT, "timeout", message, exited=exited)
        if exited.oom_kills:
            message = f"the job ran out of memory: the guest killed {exited.oom_kills} of its processes"
            reason = "out-of-memory" if exited.status else "exit"
            return Outcome(exited.status, reason, message, "ask for more with --memory", exited)
        if self._asked and exited.signal == self._asked:
            return Outcome(exited.status, "cancelled", exited=exited)
        if exited.status == 128 + signal.SIGILL and self._machine.config.cpu not in (CpuModel.HOST, CpuModel.HOST_REDUCED):
            return self._illegal(exited)
        return Outcome(exited.status, "signal" if exited.signal else "exit", exited=exited)

    def _illegal(self, exited: Exited) -> Outcome:
        """A job, or the last program of a shell, died of an illegal instruction, which the machine's CPU may not support."""
        config = self._machine.config
        by = ", emulated" if config.accelerator is Accelerator.TCG else ""
        message = f"the job ended by an illegal instruction (SIGILL); its machine's CPU is {config.cpu}{by}"
        hint = "no emulated CPU has AVX-512: build without it, or use a host with KVM"
        if config.cpu is not CpuModel.MAX:
            hint = "--cpu-model max has more instructions; AVX-512 needs a host with KVM"
        return Outcome(exited.status, "signal" if exited.signal else "exit", message, hint, exited)

    def _with_output(self, outcome: Outcome) -> Outcome:
        """The outcome, after all output was passed on: a job whose output was lost has failed.

        If a reader went away, the program gets SIGPIPE; a program that had written everything before that ends normally.
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

    # Calls from the frontend

    def deliver_signal(self, number: signal.Signals) -> None:
        """Pass a signal to the job. A signal that requests the end also ends a job that has not started, or that only waits for
        its output.
        """
        if self._outcome.done():
            self._give_up_output(number)
        elif self.is_started:
            self._send_signal(number)
        elif number in signals.ENDING:
            self._finish(ended_before(number))
        else:
            self._waiting_signals.append(number)

    def resize(self, size: WindowSize) -> None:
        """The size of the job's terminal has changed."""
        if self.is_started:
            self._session.resize(size)

    async def pause(self) -> None:
        """Stop the machine. Raises `MachineFailed`."""
        await self._machine.pause()

    async def resume(self) -> None:
        """Resume a paused machine. Raises `MachineFailed`."""
        await self._machine.resume()

    def resumed(self) -> None:
        """The job continues after a time in which nothing ran: its clock is set, and it gets CONT."""
        if self.is_started:
            self._session.set_clock()
            self._send_signal(signal.SIGCONT)

    def fail(self, message: str, hint: str) -> None:
        """The machine failed to execute a command: the job has ended."""
        self._finish(Outcome(125, "machine-failed", message, hint))

    def _give_up_output(self, number: signal.Signals) -> None:
        """The job has ended and only its output waits for a stalled reader: a signal now gives up the output."""
        if number in signals.ENDING and not self._drained.is_set():
            self._gave_up = number
            self._drained.set()

    def _send_signal(self, number: signal.Signals) -> None:
        if number in signals.ENDING:
            self._asked = number
        self._session.signal(number)
        if number == signal.SIGTERM:
            self._term_again()

    def _term_again(self) -> None:
        """A second TERM ends the job's machine when its grace period is over, whatever the job or the guest does.

        A TERM directly after the first one is the same request: timeout(1) sends it to its child and to the whole group.
        """
        now = self._loop.time()
        if self._first_term is None:
            self._first_term = now
        elif now - self._first_term >= _SAME_REQUEST_SECONDS and not self._last_grace:
            self._last_grace = True
            self._loop.call_later(self._grace, self._end_by_term)

    def _end_by_term(self) -> None:
        message = f"the job did not end within {self._grace:g} s after a second TERM, so its machine was ended"
        self._finish(Outcome(128 + signal.SIGTERM, "cancelled", message))

    def _out_of_time(self) -> None:
        if not self._outcome.done():
            self._timed_out = True
            self._session.signal(signal.SIGTERM)
            self._loop.call_later(self._grace, self._kill)

    def _kill(self) -> None:
        if self._outcome.done():
            return
        self._session.signal(signal.SIGKILL)
        self._loop.call_later(_KILL_SECONDS, self._give_up)

    def _give_up(self) -> None:
        message = f"the job was ended after {self._timeout:g} s, its --timeout or the policy's; the guest did not answer any more"
        self._finish(Outcome(TIMED_OUT, "timeout", message))


def ended_before(number: signal.Signals) -> Outcome:
    """The outcome of a job that was ended by a signal before it started."""
    return Outcome(128 + number, "cancelled", f"ended by {number.name} before the job started")
