"""QEMU's events, on a monitor (QMP) of their own. Its only commands are in the socket before QEMU runs.

Message formats: QEMU's docs/interop/qmp-spec, "Server Greeting", "Commands Responses", "Asynchronous events". On the hot path of
every job, where `qemu.qmp` would take longer than restoring a clone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from dayfly.errors import Refused
from dayfly.values import dataclass

_LIMIT = 1024 * 1024
_NEGOTIATE = {"execute": "qmp_capabilities"}
_IGNORE_SHARED = {"capability": "x-ignore-shared", "state": True}
SAVING = {"capabilities": [_IGNORE_SHARED, {"capability": "events", "state": True}]}
"""For a save: the memory is in a file of its own, not in the saved state; the monitor reports when it is done."""


@dataclass(frozen=True)
class Event:
    """An event: its name in the QMP reference, and its relevant field."""

    name: str
    detail: str


@dataclass(frozen=True)
class Refusal:
    """QEMU refused a command."""

    reason: str


def beforehand(state: int | None) -> bytes:
    """The commands in the socket before QEMU runs: the minimum that makes it send events.

    For a clone (`-incoming defer`) also the command to restore the state in this inherited descriptor.
    """
    said: list[Mapping[str, object]] = [_NEGOTIATE]
    if state is not None:
        said.append({"execute": "migrate-set-capabilities", "arguments": {"capabilities": [_IGNORE_SHARED]}})
        said.append({"execute": "migrate-incoming", "arguments": {"uri": f"fd:{state}"}})
    return b"".join(json.dumps(command).encode() + b"\n" for command in said)


class Listener:
    """Splits the data into messages. `version` is QEMU's, after its greeting: `7.2.22`."""

    def __init__(self) -> None:
        self.version = ""
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Event | Refusal]:
        """The messages that this data completes. Raises `Refused` if it is not QMP."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LIMIT:
            raise Refused("QEMU's monitor sent a line that is too long")
        for line in lines:
            message = _parse(line) if line.strip() else {}
            if "QMP" in message:
                self.version = _version(message["QMP"])
            elif "error" in message:
                yield Refusal(_field(message["error"], "desc"))
            elif "event" in message:
                yield Event(str(message["event"]), _detail(message.get("data")))


def _parse(line: bytes) -> Mapping[str, object]:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Refused("QEMU's monitor sent an invalid message") from error
    if not isinstance(message, dict):
        raise Refused("QEMU's monitor sent an invalid message")
    return message


def _detail(data: object) -> str:
    """`reason` of SHUTDOWN, `action` of BLOCK_IO_ERROR, `open` of VSERPORT_CHANGE (QEMU QMP Reference Manual)."""
    if isinstance(data, dict) and isinstance(data.get("open"), bool):
        return "open" if data["open"] else "closed"
    return _field(data, "reason") or _field(data, "action")


def _field(values: object, name: str) -> str:
    return str(values.get(name, "")) if isinstance(values, dict) else ""


def _version(greeting: object) -> str:
    """`7.2.22` from `{"version": {"qemu": {"major": 7, …}, …}, …}`."""
    version = greeting.get("version") if isinstance(greeting, dict) else None
    numbers = version.get("qemu") if isinstance(version, dict) else None
    if not isinstance(numbers, dict):
        return ""
    return ".".join(str(numbers.get(part, 0)) for part in ("major", "minor", "micro"))
