"""What QEMU tells by itself, on a monitor (QMP) of its own to which nothing is said but what was in its socket before it ran.

Message formats: QEMU's docs/interop/qmp-spec, "Server Greeting", "Commands Responses", "Asynchronous events". On the way to every
job's start, where `qemu.qmp` would cost more than a clone's restoring.
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
"""For a save: the memory is in a file of its own, and not in the saved state; the monitor tells when it is done."""


@dataclass(frozen=True)
class Event:
    """Something QEMU told: its name in the QMP reference, and the field of it that matters."""

    name: str
    detail: str


@dataclass(frozen=True)
class Refusal:
    """QEMU did not do what it was told."""

    reason: str


def beforehand(state: int | None) -> bytes:
    """What is in the socket before QEMU runs: the least that makes it tell.

    For a clone (`-incoming defer`) also the order to restore the state that it has inherited as this descriptor.
    """
    said: list[Mapping[str, object]] = [_NEGOTIATE]
    if state is not None:
        said.append({"execute": "migrate-set-capabilities", "arguments": {"capabilities": [_IGNORE_SHARED]}})
        said.append({"execute": "migrate-incoming", "arguments": {"uri": f"fd:{state}"}})
    return b"".join(json.dumps(command).encode() + b"\n" for command in said)


class Listener:
    """Cuts what comes into messages. `version` is QEMU's, once it has greeted: `7.2.22`."""

    def __init__(self) -> None:
        self.version = ""
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Event | Refusal]:
        """The messages that are complete with this. Raises `Refused` for what is no QMP."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LIMIT:
            raise Refused("QEMU's monitor sent a line without end")
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
        raise Refused("QEMU's monitor cannot be understood") from error
    if not isinstance(message, dict):
        raise Refused("QEMU's monitor cannot be understood")
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
