"""QEMU's monitor (QMP): commands to a running machine. Events are in `events`."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping

from qemu.qmp import EventListener, ExecuteError, QMPClient, QMPError

from dayfly.errors import MachineFailed
from dayfly.machine.events import SAVING

_ANSWER_SECONDS = 30.0
_SAVE_SECONDS = 60.0


class Monitor:
    """A connection to a running QEMU's monitor."""

    def __init__(self) -> None:
        logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())
        logging.getLogger("qemu.qmp").propagate = False
        self._client = QMPClient("machine")

    async def connect(self, end: socket.socket) -> None:
        """Connect to QEMU over our end of its monitor socket. Raises `MachineFailed`."""
        try:
            await self._client.connect(end)
        except QMPError as error:
            raise MachineFailed("QEMU did not open its monitor") from error

    async def stop(self) -> None:
        """Pause the machine's CPUs. Raises `MachineFailed` if QEMU does not answer."""
        await self._execute("stop")

    async def cont(self) -> None:
        """Let the machine's CPUs run again. Raises `MachineFailed` if QEMU does not answer."""
        await self._execute("cont")

    async def status(self) -> str:
        """The machine's state in QEMU's terms: `running`, `internal-error`, … (QEMU QMP Reference Manual, "RunState").

        Raises `MachineFailed` if QEMU does not answer.
        """
        answer = await self._execute("query-status")
        return str(answer.get("status", "")) if isinstance(answer, dict) else ""

    async def save(self, state: int) -> None:
        """Save the machine to an open file, except for its memory, which is already in a file. Raises `MachineFailed`."""
        await self._execute("migrate-set-capabilities", SAVING)
        self._client.send_fd_scm(state)
        await self._execute("getfd", {"fdname": "state"})
        with self._client.listener("MIGRATION") as listener:
            await self._execute("migrate", {"uri": "fd:state"})
            try:
                status = await asyncio.wait_for(_end_of_migration(listener), _SAVE_SECONDS)
            except TimeoutError:
                status = f"timed out after {_SAVE_SECONDS:g} s"
        if status != "completed":
            raise MachineFailed(f"QEMU failed to save the machine: {status}")

    async def _execute(self, command: str, arguments: Mapping[str, object] | None = None) -> object:
        try:
            return await asyncio.wait_for(self._client.execute(command, dict(arguments or {})), _ANSWER_SECONDS)
        except (QMPError, ExecuteError, TimeoutError) as error:
            raise MachineFailed(f"QEMU failed to execute {command!r}: {error}") from error

    async def close(self) -> None:
        """Close the connection. It is no error if QEMU has already ended."""
        try:
            await self._client.disconnect()
        except (QMPError, EOFError, OSError):
            return


async def _end_of_migration(listener: EventListener) -> str:
    """Wait for the final status of the migration (QEMU QMP Reference Manual, "MigrationStatus")."""
    async for message in listener:
        data = message.get("data")
        status = str(data.get("status")) if isinstance(data, dict) else ""
        if status in ("completed", "failed", "cancelled"):
            return status
    return "the monitor was closed"
