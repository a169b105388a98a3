"""Spawning QEMU. Synchronous and light, since everything heavier is imported while the machine already starts."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from enum import Enum

from dayfly import process
from dayfly.machine.channel import ToGuest, encode
from dayfly.machine.command import render
from dayfly.machine.events import Listener, beforehand
from dayfly.machine.spec import Endpoints, MachineSpec
from dayfly.machine.template import restore
from dayfly.values import dataclass, replace

_STDERR_LIMIT = 16 * 1024


class Progress(Enum):
    """How far a spawned machine has come: one that boots tells by itself, a clone was waited for."""

    SPAWNED = 1
    RESTORED = 2
    STARTED = 3


@dataclass(frozen=True)
class Launched:
    """A QEMU process that has been spawned, and our ends of its sockets and pipes.

    `times` says when each phase was reached, on the monotonic clock in seconds. `listener` has heard what was read from `events`
    so far. `unsent` is what the channel could not take at once of a START frame.
    """

    spec: MachineSpec
    child: process.Child
    channel: socket.socket
    monitor: socket.socket
    events: socket.socket
    listener: Listener
    console: int
    stderr: int
    times: Mapping[str, float]
    progress: Progress = Progress.SPAWNED
    unsent: bytes = b""

    def restored(self) -> Launched:
        """Wait until a clone's agent is awake. Raises `RestoreFailed`; the machine is gone then.

        That somebody killed QEMU is not the template's fault: whoever listens next finds it so, as with a machine that boots.
        """
        try:
            restore.wait(self.events, self.listener)
            restore.greet(self.channel)
        except restore.RestoreFailed as error:
            if error.ended and self.child.killed():
                return self
            self.child.kill()
            self.child.wait()
            said = "".join(f"\n  | {line}" for line in self.complaints().splitlines())
            self._close()
            raise restore.RestoreFailed(error.message + said, ended=True) from error
        return replace(self, progress=Progress.RESTORED, times={**self.times, "restored": time.monotonic()})

    def started(self, request: bytes) -> Launched:
        """Give a restored machine its job, by the START frame's payload, before anything listens to the answer."""
        if self.progress is not Progress.RESTORED:
            return self
        frame = encode(ToGuest.START, request)
        self.channel.setblocking(False)
        try:
            sent = self.channel.send(frame)
        except OSError:  # it is full, or QEMU is gone: whoever listens next is told
            sent = 0
        return replace(self, progress=Progress.STARTED, unsent=frame[sent:])

    def complaints(self) -> str:
        """The last lines that QEMU itself wrote to stderr."""
        size = os.fstat(self.stderr).st_size
        text = os.pread(self.stderr, _STDERR_LIMIT, max(0, size - _STDERR_LIMIT))
        return "\n".join(text.decode(errors="replace").splitlines()[-10:])

    def _close(self) -> None:
        for end in (self.channel, self.monitor, self.events):
            end.close()
        for descriptor in (self.console, self.stderr):
            os.close(descriptor)


def launch(qemu: str, spec: MachineSpec) -> Launched:
    """Spawn QEMU for `spec`, as a child that dies with us and has nothing on disk.

    The descriptors of `spec` are closed here: QEMU holds them from now on, and their locks with them.
    Raises `ProgramMissing` when there is no such QEMU.
    """
    pairs = [socket.socketpair() for _ in range(3)]
    (channel, _), (monitor, _), (events, _) = pairs
    # A pipe, since a guest writes to its console in single bytes, and a few hundred of those fill a socket's buffer.
    console, their_console = os.pipe()
    stderr = os.memfd_create("qemu-stderr", os.MFD_CLOEXEC)
    their_channel, their_monitor, their_events = (their.fileno() for _, their in pairs)
    theirs = Endpoints(their_channel, their_monitor, their_events, their_console)
    events.sendall(beforehand(spec.state))
    try:
        argv = render(process.find(qemu, "qemu-system-x86"), spec, theirs)
        keep = (*theirs.descriptors(), *spec.descriptors())
        child = process.spawn(argv, stderr=stderr, keep=keep, env={}, cwd="/", shielded=True)
    except BaseException:
        for descriptor in (console, stderr):
            os.close(descriptor)
        for ours, _ in pairs:
            ours.close()
        raise
    finally:
        for _, their in pairs:
            their.close()
        for descriptor in (their_console, *spec.descriptors()):
            os.close(descriptor)
    return Launched(spec, child, channel, monitor, events, Listener(), console, stderr, {"spawned": time.monotonic()})
