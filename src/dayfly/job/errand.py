"""Commands of Dayfly's own in a machine that is ready: as root, with no input, their output to whoever wants it.

What comes out of the machine is hostile: output is taken within its credit, and a machine that says nothing for too long is given
up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dayfly.errors import DayflyError, MachineFailed, Refused
from dayfly.job.runner import lost, not_started
from dayfly.machine.channel import OUTPUT_WINDOW, Frame, FromGuest, ProtocolBroken, Stream, ToGuest
from dayfly.machine.guest.protocol import Exited, encode_grant, parse_exited, parse_failed
from dayfly.machine.machine import Machine

Output = Callable[[Stream, bytes], None]
"""Takes what the command writes. A `DayflyError` of its ends the errand."""

_GRANT_STEP = 256 * 1024


class Errand:
    """One command. The machine is then either over with it, or is the caller's to destroy."""

    def __init__(self, machine: Machine, output: Output, patience: float | None = None) -> None:
        """`patience` is for how many seconds the machine may say nothing (None: for ever)."""
        self._machine = machine
        self._output = output
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[Exited] = self._loop.create_future()
        self._started = False
        self._owed = dict.fromkeys((Stream.STDOUT, Stream.STDERR), 0)
        self._credit = dict.fromkeys((Stream.STDOUT, Stream.STDERR), OUTPUT_WINDOW)
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, request: bytes) -> Exited:
        """How the command that the START payload `request` names ended.

        Raises `MachineFailed` when the machine ended before, broke the protocol or said nothing; `Refused` when the command could
        not be started; what the output's taker raises.
        """
        dying = self._loop.create_task(self._watch())
        try:
            self._machine.listen(self._received)
            self._machine.start(request)
            self._machine.send(ToGuest.END, stream=Stream.STDIN)
            self._wait_on()
            return await self._ended
        finally:
            dying.cancel()
            if self._timer is not None:
                self._timer.cancel()

    async def _watch(self) -> None:
        await self._machine.wait()
        outcome = lost(self._machine, await self._machine.destroy())
        self._fail(MachineFailed(outcome.message, outcome.hint))

    def _fail(self, error: DayflyError) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)

    def _wait_on(self) -> None:
        """Something was heard: patience begins anew."""
        if self._timer is not None:
            self._timer.cancel()
        if self._patience is not None:
            silent = MachineFailed(f"the machine said nothing for {self._patience:g} s")
            self._timer = self._loop.call_later(self._patience, self._fail, silent)

    def _received(self, frame: Frame) -> None:
        if self._ended.done():
            return
        self._wait_on()
        if frame.type is FromGuest.STARTED and not self._started:
            self._started = True
        elif frame.type is FromGuest.FAILED:
            outcome = not_started(parse_failed(frame.payload))
            self._fail(Refused(outcome.message, outcome.hint))
        elif not self._started or frame.type is FromGuest.STARTED:
            raise ProtocolBroken(f"the guest sent {frame.type.name} when it may not")
        elif frame.type is FromGuest.DATA:
            self._data(Stream(frame.stream), frame.payload)
        elif frame.type is FromGuest.EXITED:
            self._ended.set_result(parse_exited(frame.payload))

    def _data(self, stream: Stream, chunk: bytes) -> None:
        self._credit[stream] -= len(chunk)
        if self._credit[stream] < 0:
            raise ProtocolBroken("the guest sent more than it was granted")
        try:
            self._output(stream, chunk)
        except DayflyError as error:
            self._fail(error)
            return
        self._owed[stream] += len(chunk)
        if self._owed[stream] >= _GRANT_STEP:
            self._machine.send(ToGuest.GRANT, encode_grant(self._owed[stream]), stream)
            self._credit[stream] += self._owed[stream]
            self._owed[stream] = 0
