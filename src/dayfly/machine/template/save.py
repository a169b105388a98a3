"""Booting a machine to be a template: it comes up, rehearses a job (what every job touches is in memory then), is saved."""

from __future__ import annotations

import asyncio
import os
import time

from dayfly.errors import MachineFailed
from dayfly.machine.channel import Frame, FromGuest, ToGuest
from dayfly.machine.guest.protocol import GuestIdentity, StartRequest, parse_exited, parse_failed
from dayfly.machine.launch import Launched
from dayfly.machine.machine import Machine

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


async def _rehearse(machine: Machine) -> None:
    """Run a job as root that starts the image's shells. What became of it does not matter, as long as the agent says so."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    ended = asyncio.ensure_future(machine.wait())

    def heard(frame: Frame) -> None:
        if frame.type is FromGuest.EXITED:
            parse_exited(frame.payload)
        elif frame.type is FromGuest.FAILED:
            parse_failed(frame.payload)
        else:
            return
        if not done.done():
            done.set_result(None)

    machine.listen(heard)
    machine.start(_rehearsal().encode())
    machine.send(ToGuest.END)
    await asyncio.wait({done, ended}, return_when=asyncio.FIRST_COMPLETED)
    ended.cancel()
    await machine.again()


def _rehearsal() -> StartRequest:
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
