"""One command of Dayfly's own in a machine that is ready: as root, without input, with its output passed to a callback.

Everything from the machine is hostile: output is limited by its credit, and a machine that is silent for too long is given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dayfly import process
from dayfly.errors import DayflyError, MachineFailed
from dayfly.guest.frames import Stream
from dayfly.guest.protocol import Exited
from dayfly.guest.session import NotStarted, Receiver, Session
from dayfly.machine.machine import Machine

TakeOutput = Callable[[Stream, bytes], None]
"""Receives the command's output. A `DayflyError` that it raises ends the command."""


class Command(Receiver):
    """One command. The caller destroys the machine, or uses it again."""

    def __init__(self, machine: Machine, take_output: TakeOutput, patience: float | None = None) -> None:
        """`patience` is how many seconds the machine may be silent (None: no limit)."""
        self._machine = machine
        self._session = Session(machine, self)
        self._take_output = take_output
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[Exited] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, request: bytes) -> Exited:
        """Run the command of the START payload `request`, and return how it ended.

        Raises `MachineFailed` if the machine ended before, broke the protocol or was silent; `NotStarted` if the command
        could not be started; what `take_output` raises.
        """
        dying = self._loop.create_task(self._watch())
        try:
            self._session.listen()
            self._session.start(request)
            self._session.write(b"")
            self._wait_on()
            return await self._ended
        finally:
            dying.cancel()
            if self._timer is not None:
                self._timer.cancel()

    async def _watch(self) -> None:
        await self._machine.wait()
        await self._machine.destroy()
        loss = self._machine.loss(process.limits())
        self._fail(MachineFailed(loss.message, loss.hint))

    def _fail(self, error: DayflyError) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)

    def _wait_on(self) -> None:
        """The machine sent something: restart the timer."""
        if self._timer is not None:
            self._timer.cancel()
        if self._patience is not None and not self._ended.done():
            silent = MachineFailed(f"the machine was silent for {self._patience:g} s")
            self._timer = self._loop.call_later(self._patience, self._fail, silent)

    def started(self) -> None:
        """The command runs."""
        self._wait_on()

    def output(self, stream: Stream, chunk: bytes) -> None:
        """The command wrote output."""
        self._wait_on()
        if self._ended.done():
            return
        try:
            self._take_output(stream, chunk)
        except DayflyError as error:
            self._fail(error)
            return
        self._session.consumed(stream, len(chunk))

    def exited(self, exited: Exited) -> None:
        """The command has ended."""
        if not self._ended.done():
            self._ended.set_result(exited)

    def failed(self, error: NotStarted) -> None:
        """The command could not be started."""
        self._fail(error)
