"""Waits until a clone is restored and runs. Synchronous and light: nothing else can be done for the job meanwhile."""

from __future__ import annotations

import select
import socket
import time

from dayfly.errors import MachineFailed
from dayfly.guest.frames import Decoder, FromGuest, ProtocolBroken, ToGuest, encode
from dayfly.machine.events import Listener, Refusal
from dayfly.machine.qemu import Launched, Progress
from dayfly.values import replace

_SECONDS = 60.0
_READY = b"\x02"


class RestoreFailed(MachineFailed):
    """A clone could not be restored. `ended`: because QEMU ended."""

    def __init__(self, message: str, *, ended: bool = False) -> None:
        super().__init__(message)
        self.ended = ended


def restored(launched: Launched) -> Launched:
    """Wait until a clone's agent is awake. Raises `RestoreFailed`; the machine is gone then.

    If QEMU was killed, that is not the snapshot's fault: the next reader finds out, as with a machine that boots.
    """
    try:
        _wait(launched.events, launched.listener)
        _greet(launched.channel)
    except RestoreFailed as error:
        if error.ended and launched.child.killed():
            return launched
        launched.child.kill()
        launched.child.wait()
        said = "".join(f"\n  | {line}" for line in launched.complaints().splitlines())
        launched.close()
        raise RestoreFailed(error.message + said, ended=True) from error
    return replace(launched, progress=Progress.RESTORED, times={**launched.times, "restored": time.monotonic()})


def started(launched: Launched, request: bytes) -> Launched:
    """Send the job to a restored machine, as the START frame's payload, before anything reads the answer."""
    if launched.progress is not Progress.RESTORED:
        return launched
    frame = encode(ToGuest.START, request)
    launched.channel.setblocking(False)
    try:
        sent = launched.channel.send(frame)
    except OSError:  # it is full, or QEMU has ended: the next reader finds out
        sent = 0
    return replace(launched, progress=Progress.STARTED, unsent=frame[sent:])


def _wait(events: socket.socket, listener: Listener) -> None:
    """Wait until the guest runs: only the RESUME event shows that, since a machine whose disks cannot be opened stays paused
    silently.

    Raises `RestoreFailed`.
    """
    end = time.monotonic() + _SECONDS
    poll = select.poll()
    poll.register(events, select.POLLIN)
    while poll.poll(max(0.0, end - time.monotonic()) * 1000):
        try:
            said = events.recv(65536)
        except ConnectionResetError:
            said = b""
        if not said:
            raise RestoreFailed("QEMU ended while it restored the template", ended=True)
        resumed = False
        for message in listener.feed(said):
            if isinstance(message, Refusal):
                raise RestoreFailed(f"QEMU refused the template: {message.reason}")
            resumed = resumed or message.name == "RESUME"
        if resumed:
            return
    raise RestoreFailed(f"the template was not restored within {_SECONDS:g} s")


def _greet(channel: socket.socket) -> None:
    """Check that the agent of a restored machine is awake, by CLOCK and its answer.

    A time that is sent while the guest is still waking up would be out of date when it is read. Raises `RestoreFailed`.
    """
    decoder = Decoder()
    channel.settimeout(_SECONDS)
    try:
        channel.sendall(encode(ToGuest.CLOCK, time.time_ns().to_bytes(8, "little")))
        while said := channel.recv(4096):
            for frame in decoder.feed(said):
                if (frame.type, frame.payload) != (FromGuest.STAGE, _READY):
                    raise RestoreFailed("the template's agent sent an unexpected answer after the restore")
                return
    except TimeoutError:
        raise RestoreFailed(f"the template's agent did not answer within {_SECONDS:g} s") from None
    except (ConnectionError, ProtocolBroken) as error:
        raise RestoreFailed(str(error), ended=isinstance(error, ConnectionError)) from error
    raise RestoreFailed("QEMU ended after it restored the template", ended=True)
