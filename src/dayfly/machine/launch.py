"""Spawning QEMU. Synchronous and light, since everything heavier is imported while the machine already starts."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from dayfly import process
from dayfly.machine.command import render
from dayfly.machine.spec import Endpoints, MachineSpec

_STDERR_LIMIT = 16 * 1024


@dataclass(frozen=True)
class Launched:
    """A QEMU process that has just been spawned, and our ends of its sockets and pipes."""

    spec: MachineSpec
    child: process.Child
    channel: socket.socket
    monitor: socket.socket
    console: int
    stderr: int

    def complaints(self) -> str:
        """The last lines that QEMU itself wrote to stderr."""
        size = os.fstat(self.stderr).st_size
        text = os.pread(self.stderr, _STDERR_LIMIT, max(0, size - _STDERR_LIMIT))
        return "\n".join(text.decode(errors="replace").splitlines()[-10:])


def launch(qemu: str, spec: MachineSpec) -> Launched:
    """Spawn QEMU for `spec`, as a child that dies with us and has nothing on disk.

    The descriptors of `spec` are closed here: QEMU holds them from now on, and their locks with them.
    Raises `ProgramMissing` when there is no such QEMU.
    """
    channel, their_channel = socket.socketpair()
    monitor, their_monitor = socket.socketpair()
    # A pipe, since a guest writes to its console in single bytes, and a few hundred of those fill a socket's buffer.
    console, their_console = os.pipe()
    stderr = os.memfd_create("qemu-stderr", os.MFD_CLOEXEC)
    theirs = Endpoints(their_channel.fileno(), their_monitor.fileno(), their_console)
    try:
        argv = render(process.find(qemu, "qemu-system-x86"), spec, theirs)
        keep = (*theirs.descriptors(), *spec.descriptors())
        child = process.spawn(argv, stderr=stderr, keep=keep, env={}, cwd="/", shielded=True)
    except BaseException:
        for descriptor in (console, stderr):
            os.close(descriptor)
        channel.close()
        monitor.close()
        raise
    finally:
        their_channel.close()
        their_monitor.close()
        for descriptor in (their_console, *spec.descriptors()):
            os.close(descriptor)
    return Launched(spec, child, channel, monitor, console, stderr)
