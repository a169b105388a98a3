"""A first command in a machine that becomes a template, so that what every job touches is already in its memory."""

from __future__ import annotations

import asyncio
import os
import time

from dayfly.errors import MachineFailed
from dayfly.guest.protocol import Exited, GuestIdentity, StartRequest
from dayfly.guest.session import NotStarted, Receiver, Session
from dayfly.machine.machine import Machine

_SECONDS = 30.0
_SHELLS = "for shell in sh bash; do command -v $shell > /dev/null && $shell -c 'true' > /dev/null; done; true"


class _Rehearsal(Receiver):
    """Waits for the end of the command, whatever its result."""

    def __init__(self) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def exited(self, exited: Exited) -> None:
        self._end(exited)

    def failed(self, error: NotStarted) -> None:
        self._end(error)

    def _end(self, _: object) -> None:
        if not self.over.done():
            self.over.set_result(None)


async def rehearse(machine: Machine) -> None:
    """Run a command as root that starts the image's shells, and wait until the agent accepts another one.

    Raises `MachineFailed` if it does not.
    """
    try:
        async with asyncio.timeout(_SECONDS):
            await _rehearse(machine)
    except TimeoutError:
        raise MachineFailed(f"it did not rehearse a job within {_SECONDS:g} s") from None


async def _rehearse(machine: Machine) -> None:
    ended = asyncio.ensure_future(machine.wait())
    rehearsal = _Rehearsal()
    session = Session(machine, rehearsal)
    session.listen()
    session.start(_request().encode())
    session.write(b"")
    await asyncio.wait({rehearsal.over, ended}, return_when=asyncio.FIRST_COMPLETED)
    ended.cancel()
    await machine.again()


def _request() -> StartRequest:
    return StartRequest(
        arguments=(b"/bin/sh", b"-c", _SHELLS.encode()),
        environment=(b"PATH=/usr/local/bin:/usr/bin:/bin",),
        directory=b"/",
        identity=GuestIdentity(0, 0, (0,)),
        hostname="dayfly-0000000000",
        seed=os.urandom(64),
        clock=time.time_ns(),
        machine_id="0" * 32,
    )
