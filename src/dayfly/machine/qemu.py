"""Machines by QEMU, each a child process. Synchronous and light: everything heavier is imported while the machine starts."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from enum import Enum

from dayfly import process
from dayfly.machine.command import render
from dayfly.machine.config import MachineConfig
from dayfly.machine.driver import Ability, Driver
from dayfly.machine.events import Listener, beforehand
from dayfly.machine.resources import Endpoints, OpenResources
from dayfly.values import dataclass

_STDERR_LIMIT = 16 * 1024


class Progress(Enum):
    """How far a spawned machine has started: a booting one reports it itself, a clone was waited for."""

    SPAWNED = 1
    RESTORED = 2
    STARTED = 3


@dataclass(frozen=True)
class Launched:
    """A machine's QEMU process, and our ends of its sockets and pipes.

    `times` says when each phase was reached, on the monotonic clock in seconds. `listener` has got what was read from
    `events` so far. `unsent` is the part of a START frame that the channel did not accept at once.
    """

    config: MachineConfig
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

    def complaints(self) -> str:
        """The last lines that QEMU itself wrote to stderr."""
        size = os.fstat(self.stderr).st_size
        text = os.pread(self.stderr, _STDERR_LIMIT, max(0, size - _STDERR_LIMIT))
        return "\n".join(text.decode(errors="replace").splitlines()[-10:])

    def close(self) -> None:
        """Close our ends of a machine that is gone."""
        for end in (self.channel, self.monitor, self.events):
            end.close()
        for descriptor in (self.console, self.stderr):
            os.close(descriptor)


class Qemu(Driver):
    """QEMU, spawned as a child that dies with us, without files on disk."""

    abilities = frozenset(Ability) - {Ability.DETACH}

    def __init__(self, program: str) -> None:
        """`program` is a name on PATH, or a path."""
        self._program = program

    def start(self, config: MachineConfig, resources: OpenResources) -> Launched:
        """Spawn QEMU for a machine. It inherits the open files, and their locks with them.

        Raises `ProgramMissing` if there is no such QEMU.
        """
        pairs = [socket.socketpair() for _ in range(3)]
        (channel, _), (monitor, _), (events, _) = pairs
        # A pipe, since a guest writes to its console in single bytes, and a few hundred of those fill a socket's buffer.
        console, their_console = os.pipe()
        stderr = os.memfd_create("qemu-stderr", os.MFD_CLOEXEC)
        their_channel, their_monitor, their_events = (their.fileno() for _, their in pairs)
        theirs = Endpoints(their_channel, their_monitor, their_events, their_console)
        events.sendall(beforehand(resources.state))
        try:
            argv = render(process.find(self._program, "qemu-system-x86"), config, resources, theirs)
            keep = (*theirs.descriptors(), *resources.descriptors())
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
            os.close(their_console)
        return Launched(config, child, channel, monitor, events, Listener(), console, stderr, {"spawned": time.monotonic()})
