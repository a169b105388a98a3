"""The foreground frontend: a job gets the standard streams, the terminal and the signals of this process.

One job at a time has them. The process is stopped and continued together with the job.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Callable

from dayfly.errors import MachineFailed
from dayfly.guest.frames import Stream
from dayfly.job import signals
from dayfly.job.control import Control
from dayfly.job.frontend import Frontend
from dayfly.job.prepare import Prepared
from dayfly.job.result import JobResult
from dayfly.job.streams import Inlet, Outlet
from dayfly.job.supervise import Audience, RecordListener, supervise
from dayfly.job.terminal import CallersTerminal, size
from dayfly.machine.qemu import Launched
from dayfly.notices import Notify
from dayfly.provision.probe import Probe
from dayfly.provision.templates.lookup import Origin
from dayfly.settings import Settings


class Foreground(Frontend):
    """The streams 0, 1 and 2 of this process, and its signals."""

    def __init__(self, *, terminal: bool) -> None:
        """With `terminal`, the job gets our terminal."""
        self._terminal = CallersTerminal(0) if terminal else None
        self.has_stderr = not terminal
        self._loop = asyncio.get_running_loop()
        self._inlet: Inlet | None = None
        self._control = Control()
        self._suspended = self._paused = False
        self._obeying = asyncio.Lock()
        self._obedience: asyncio.Task[None] | None = None
        self._listening: signals.Listening | None = None

    def attach(self, control: Control) -> None:
        """Pass on the signals that were held until now, and all later ones."""
        self._control = control
        heeded = signals.heeded(signals.HANDLED)
        self._listening = signals.Listening(self._loop, heeded, lambda number: self._signalled(control, number))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.HANDLED)

    def started(self) -> None:
        """Until now Ctrl-C ended the wait; from now on the terminal is the job's."""
        gc.freeze()  # imported modules are not garbage
        gc.enable()  # it is disabled during the imports
        if self._terminal is not None:
            self._terminal.take()

    def output(
        self, stream: Stream, written: Callable[[int], None], broken: Callable[[OSError], None], ended: Callable[[], None]
    ) -> Outlet:
        """Our own stream of the same number."""
        return Outlet(int(stream), written, broken, ended)

    def input(self, window: int, read: Callable[[bytes], None]) -> Inlet:
        """Our own stdin."""
        self._inlet = Inlet(0, window, read, self._at_terminal)
        return self._inlet

    def ended(self) -> None:
        """The terminal is the user's again."""
        if self._terminal is not None:
            self._terminal.give_back()

    def detach(self) -> None:
        """Block the signals: nothing listens to them any more, and one would end us before the record is written."""
        signal.pthread_sigmask(signal.SIG_BLOCK, signals.HELD)
        if self._listening is not None:
            self._listening.stop()
            self._listening = None

    def _at_terminal(self) -> None:
        if self._terminal is not None and not self._control.is_over:
            self._terminal.take()

    def _signalled(self, control: Control, number: signal.Signals) -> None:
        if number in (signal.SIGTSTP, signal.SIGCONT):
            self._suspended = number == signal.SIGTSTP
            self._obedience = self._loop.create_task(self._obey(control))
        elif number == signal.SIGWINCH:
            if self._terminal is not None:
                control.resize(size(0))
        else:
            control.deliver_signal(number)

    async def _obey(self, control: Control) -> None:
        """Pause the machine, and stop this process, as TSTP stops any process; or resume the machine.

        Batch systems send CONT before TERM, also to jobs that are not suspended; and CONT may arrive while QEMU is still
        pausing.
        """
        try:
            async with self._obeying:
                if self._suspended and not self._paused:
                    await control.pause()
                    self._paused = True
                if not self._suspended and self._paused:
                    await control.resume()
                    self._paused = False
        except MachineFailed as error:
            control.fail(error.message, error.hint)
            return
        if self._suspended:
            self.ended()
            os.kill(os.getpid(), signal.SIGSTOP)
            self._suspended = False  # CONT resumed us, so a second TSTP before it has no effect any more
        elif control.is_started:
            control.resumed()
            self._at_terminal()
            if self._inlet is not None:
                self._inlet.look_again()


def supervised(
    prepared: Prepared,
    settings: Settings,
    launched: Launched,
    origin: Origin,
    trial: Probe,
    notify: Notify,
    told: RecordListener | None,
) -> JobResult:
    """Run a job in the foreground, in the machine that was started for it."""

    async def run() -> JobResult:
        frontend = Foreground(terminal=prepared.terminal)
        return await supervise(prepared, settings, launched, origin, trial, frontend, Audience(notify, told))

    return asyncio.run(run())
