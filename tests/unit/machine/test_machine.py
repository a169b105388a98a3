"""A machine's frames, without a machine: what comes before anybody listens."""

import asyncio
import os
import socket

from dayfly.guest.frames import Frame, FromGuest
from dayfly.machine.events import Listener
from dayfly.machine.machine import Machine
from dayfly.machine.qemu import Launched, Progress
from dayfly.process import Child
from tests.unit.machine.test_command import CONFIG


def test_a_clone_that_answers_before_anybody_listens_is_heard() -> None:
    asyncio.run(_answer())


async def _answer() -> None:
    ends = [socket.socketpair() for _ in range(3)]
    launched = Launched(
        CONFIG, Child(0, 0, ()), ends[0][0], ends[1][0], ends[2][0], Listener(), os.dup(0), os.dup(0), {}, Progress.STARTED
    )
    machine = Machine(launched)
    started, data = Frame(FromGuest.STARTED, 0, bytes(4)), Frame(FromGuest.DATA, 1, b"x")
    machine._received(started)
    heard: list[Frame] = []
    machine.listen(heard.append)
    assert heard == [started]
    machine._received(data)
    assert heard == [started, data]
    for pair in ends:
        for end in pair:
            end.close()
    os.close(launched.console)
    os.close(launched.stderr)
