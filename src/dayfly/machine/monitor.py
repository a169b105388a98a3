"""QEMU's monitor (QMP): pausing, resuming, and what QEMU tells of the machine by itself."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass

from qemu.qmp import EventListener, ExecuteError, QMPClient, QMPError
from qemu.qmp.models import Greeting

from dayfly.errors import MachineFailed

_ANSWER_SECONDS = 30.0


@dataclass(frozen=True)
class Event:
    """Something QEMU told: its name in the QMP reference, and the field of it that matters."""

    name: str
    detail: str


class Monitor:
    """A connection to a running QEMU's monitor."""

    def __init__(self, told: Callable[[Event], None]) -> None:
        logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())
        logging.getLogger("qemu.qmp").propagate = False
        self._client = QMPClient("machine")
        self._listener = EventListener(names=("SHUTDOWN", "BLOCK_IO_ERROR", "GUEST_PANICKED"))
        self._told = told
        self._follower: asyncio.Task[None] | None = None
        self.version = ""

    async def connect(self, end: socket.socket) -> None:
        """Greet QEMU over our end of its monitor socket. Raises `MachineFailed`."""
        self._client.register_listener(self._listener)
        try:
            await self._client.connect(end)
        except QMPError as error:
            raise MachineFailed("QEMU did not open its monitor") from error
        self.version = _version(self._client.greeting)
        self._follower = asyncio.get_running_loop().create_task(self._follow())

    async def _follow(self) -> None:
        async for message in self._listener:
            data = message.get("data")
            fields = data if isinstance(data, dict) else {}
            detail = fields.get("reason", fields.get("action", ""))
            self._told(Event(str(message.get("event")), str(detail)))

    async def stop(self) -> None:
        """Pause the machine's CPUs. Raises `MachineFailed` when QEMU does not answer."""
        await self._execute("stop")

    async def cont(self) -> None:
        """Let the machine's CPUs run again. Raises `MachineFailed` when QEMU does not answer."""
        await self._execute("cont")

    async def _execute(self, command: str) -> None:
        try:
            await asyncio.wait_for(self._client.execute(command), _ANSWER_SECONDS)
        except (QMPError, ExecuteError, TimeoutError) as error:
            raise MachineFailed(f"QEMU did not carry out {command!r}: {error}") from error

    async def close(self) -> None:
        """Hang up. QEMU's being gone already is no mistake."""
        if self._follower is not None:
            self._follower.cancel()
        try:
            await self._client.disconnect()
        except (QMPError, EOFError, OSError):
            return


def _version(greeting: Greeting | None) -> str:
    """`7.2.22` from QMP's greeting (QEMU's docs/interop/qmp-spec, "Server Greeting")."""
    numbers = greeting.QMP.version.get("qemu") if greeting else None
    if not isinstance(numbers, dict):
        return ""
    return ".".join(str(numbers.get(part, 0)) for part in ("major", "minor", "micro"))
