"""A job in the foreground of this process: its standard streams, its terminal, and the signals that it gets.

One job at a time has them. The process is stopped and goes on as the job does.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

from dayfly.errors import MachineFailed
from dayfly.guest.frames import Stream
from dayfly.job import signals
from dayfly.job.frontend import Frontend
from dayfly.job.run import Run
from dayfly.job.streams import Inlet, Outlet
from dayfly.job.terminal import CallersTerminal, size


class Foreground(Frontend):
    """The streams 0, 1 and 2 of this process, and its signals."""

    def __init__(self, *, terminal: bool) -> None:
        """With `terminal`, the job has one, which is ours."""
        self._terminal = CallersTerminal(0) if terminal else None
        self.has_stderr = not terminal
        self._loop = asyncio.get_running_loop()
        self._inlet: Inlet | None = None
        self._run: Run | None = None
        self._suspended = self._paused = False
        self._obeying = asyncio.Lock()
        self._obedience: asyncio.Task[None] | None = None

    def attach(self, run: Run) -> None:
        """Pass on the signals that were held until now, and all that come."""
        self._run = run
        for number in signals.heeded(signals.HANDLED):
            self._loop.add_signal_handler(number, self._signalled, run, number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.HANDLED)

    def started(self) -> None:
        """Until now Ctrl-C ended the waiting; from now on the terminal is the job's."""
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

    def give_terminal_back(self) -> None:
        """The terminal is the user's again."""
        if self._terminal is not None:
            self._terminal.give_back()

    def _at_terminal(self) -> None:
        if self._terminal is not None and self._run is not None and not self._run.is_over:
            self._terminal.take()

    def _signalled(self, run: Run, number: signal.Signals) -> None:
        if number in (signal.SIGTSTP, signal.SIGCONT):
            self._suspended = number == signal.SIGTSTP
            self._obedience = self._loop.create_task(self._obey(run))
        elif number == signal.SIGWINCH:
            if self._terminal is not None:
                run.resize(size(0))
        else:
            run.deliver_signal(number)

    async def _obey(self, run: Run) -> None:
        """Pause the machine, and stop this process, as the sender of TSTP expects of a process; or let the machine go on.

        Batch systems send CONT to jobs that nobody has suspended, before TERM; and CONT may come while QEMU still pauses.
        """
        try:
            async with self._obeying:
                if self._suspended and not self._paused:
                    await run.pause()
                    self._paused = True
                if not self._suspended and self._paused:
                    await run.resume()
                    self._paused = False
        except MachineFailed as error:
            run.fail(error.message, error.hint)
            return
        if self._suspended:
            self.give_terminal_back()
            os.kill(os.getpid(), signal.SIGSTOP)
            self._suspended = False  # CONT is what we went on by, and a second TSTP before it means nothing any more
        elif run.is_started:
            run.resumed()
            self._at_terminal()
            if self._inlet is not None:
                self._inlet.look_again()
