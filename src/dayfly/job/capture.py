"""Captures the files of a machine whose job has ended, if its description requests that."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Any

from dayfly.errors import DayflyError
from dayfly.job import signals
from dayfly.job.control import Control
from dayfly.job.frontend import Frontend
from dayfly.job.prepare import Prepared
from dayfly.job.run import Outcome
from dayfly.machine.machine import Machine
from dayfly.provision.capture import capture


class _Stop(Control):
    """Signals that request the end stop the writing."""

    def __init__(self) -> None:
        self.asked: asyncio.Future[signal.Signals] = asyncio.get_running_loop().create_future()

    def deliver_signal(self, number: signal.Signals) -> None:
        if number in signals.ENDING and not self.asked.done():
            self.asked.set_result(number)


async def attempt(machine: Machine, prepared: Prepared, outcome: Outcome, frontend: Frontend) -> Outcome:
    """Write the machine's files to the capture of its job's description.

    Returns the job's outcome if all files were written, or otherwise why not.
    """
    wanted = prepared.description.capture
    assert wanted is not None  # noqa: S101 (only called with a capture)
    stop = _Stop()
    frontend.attach(stop)
    places = [*(share.target for share in prepared.shares), *(link.path for link in prepared.links)]
    kernel = prepared.image.config.kernel.version
    loop = asyncio.get_running_loop()
    writing = loop.create_task(capture(machine, prepared.boot, kernel, places, wanted.descriptor))
    first: set[asyncio.Future[Any]] = {writing, stop.asked}
    await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
    machine.times["captured"] = time.monotonic()
    if not writing.done():
        writing.cancel()
        number = stop.asked.result()
        message = f"ended by {number.name} while the machine's files were copied: no image was saved"
        return Outcome(128 + number, "cancelled", message, exited=outcome.exited)
    error = writing.exception()
    if isinstance(error, DayflyError):
        return Outcome(125, "not-captured", f"no image was saved: {error.message}", error.hint, outcome.exited)
    writing.result()
    return outcome
