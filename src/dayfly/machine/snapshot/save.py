"""Booting a machine to be a template: it comes up, rehearses a job (what every job touches is in memory then), is saved."""

from __future__ import annotations

import asyncio
import os
import time

from dayfly.errors import MachineFailed
from dayfly.guest.protocol import Exited, GuestIdentity, StartRequest
from dayfly.guest.session import NotStarted, Receiver, Session
from dayfly.machine.machine import Machine
from dayfly.machine.qemu import Launched

_REHEARSAL_SECONDS = 30.0
_SHELLS = "for shell in sh bash; do command -v $shell > /dev/null && $shell -c 'true' > /dev/null; done; true"


async def save(launched: Launched, state: int, timeout: float) -> str:
    """Boot the machine, let it rehearse, and save it: its memory is in its backing file then, the rest in the open file `state`.

    Returns QEMU's version. The machine is gone afterwards. `timeout` is for the boot, in seconds.
    Raises `StartFailed` when it does not come up, `MachineFailed` when it cannot be saved.
    """
    async with Machine(launched) as machine:
        await machine.ready(timeout)
        try:
            async with asyncio.timeout(_REHEARSAL_SECONDS):
                await _rehearse(machine)
            await machine.save(state)
        except (TimeoutError, MachineFailed) as error:
            why = str(error) or f"it did not rehearse a job within {_REHEARSAL_SECONDS:g} s"
            raise await machine.killed() or MachineFailed(f"the machine could not be saved: {why}") from error
        return machine.qemu_version


class _Rehearsal(Receiver):
    """What becomes of the job does not matter, as long as the agent says so."""

    def __init__(self) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def exited(self, exited: Exited) -> None:
        self._end(exited)

    def failed(self, error: NotStarted) -> None:
        self._end(error)

    def _end(self, _: object) -> None:
        if not self.over.done():
            self.over.set_result(None)


async def _rehearse(machine: Machine) -> None:
    """Run a job as root that starts the image's shells."""
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
