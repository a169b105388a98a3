"""The end of a machine's process, without a machine: a program that ends in QEMU's place."""

from __future__ import annotations

import asyncio
import os
import socket

from dayfly import process
from dayfly.machine.events import Listener
from dayfly.machine.machine import Machine
from dayfly.machine.qemu import Launched
from tests.unit.machine.test_command import CONFIG


def test_destroyed_between_its_process_end_and_its_sockets() -> None:
    """Somebody holds its console a moment longer. The process has been reaped by then, and its number is nobody's."""
    asyncio.run(_destroyed())


async def _destroyed() -> None:
    pairs = [socket.socketpair() for _ in range(3)]
    reader, writer = os.pipe()
    child = process.spawn(["sh", "-c", "exit 3"])
    (channel, _), (monitor, _), (events, _) = pairs
    launched = Launched(CONFIG, child, channel, monitor, events, Listener(), reader, os.memfd_create("stderr"), {})
    async with Machine(launched) as machine:
        while not machine._reaped:
            await asyncio.sleep(0.01)
        ending = asyncio.ensure_future(machine.destroy())
        await asyncio.sleep(0)
        os.close(writer)
        for _, theirs in pairs:
            theirs.close()
        remains = await ending
    assert remains.status == 3
