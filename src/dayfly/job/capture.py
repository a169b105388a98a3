"""The files of a machine whose job has ended, where its description wants them kept."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Any

from dayfly.errors import DayflyError
from dayfly.job import signals
from dayfly.job.prepare import Prepared
from dayfly.job.run import Outcome
from dayfly.machine.machine import Machine
from dayfly.provision.capture import capture


async def attempt(machine: Machine, prepared: Prepared, outcome: Outcome) -> Outcome:
    """Write the machine's files to where its job's description says: the job's outcome, or why nothing can come of them."""
    wanted = prepared.description.capture
    assert wanted is not None  # noqa: S101 (or nobody would have asked)
    loop = asyncio.get_running_loop()
    asked: asyncio.Future[signal.Signals] = loop.create_future()
    for number in signals.heeded(signals.HANDLED):
        loop.add_signal_handler(number, _asked, asked, number)
    places = [*(share.target for share in prepared.shares), *(link.path for link in prepared.links)]
    kernel = prepared.image.config.kernel.version
    writing = loop.create_task(capture(machine, prepared.boot, kernel, places, wanted.descriptor))
    first: set[asyncio.Future[Any]] = {writing, asked}
    await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
    machine.times["captured"] = time.monotonic()
    if not writing.done():
        writing.cancel()
        number = asked.result()
        message = f"ended by {number.name} while the machine's files were copied: no image was saved"
        return Outcome(128 + number, "cancelled", message, exited=outcome.exited)
    error = writing.exception()
    if isinstance(error, DayflyError):
        return Outcome(125, "not-captured", f"no image was saved: {error.message}", error.hint, outcome.exited)
    writing.result()
    wanted.image = prepared.image.digest
    return outcome


def _asked(asked: asyncio.Future[signal.Signals], number: signal.Signals) -> None:
    if number in signals.ENDING and not asked.done():
        asked.set_result(number)
