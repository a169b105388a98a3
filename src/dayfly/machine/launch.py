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
    """A QEMU process that has just been spawned, and our ends of its sockets."""

    spec: MachineSpec
    child: process.Child
    channel: socket.socket
    monitor: socket.socket
    console: socket.socket
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
    pairs = [socket.socketpair() for _ in range(3)]
    theirs = Endpoints(*(pair[1].fileno() for pair in pairs))
    stderr = os.memfd_create("qemu-stderr", os.MFD_CLOEXEC)
    try:
        argv = render(process.find(qemu, "qemu-system-x86"), spec, theirs)
        keep = (*theirs.descriptors(), *spec.descriptors())
        child = process.spawn(argv, stderr=stderr, keep=keep, env={}, cwd="/", shielded=True)
    except BaseException:
        os.close(stderr)
        for pair in pairs:
            pair[0].close()
        raise
    finally:
        for pair in pairs:
            pair[1].close()
        for descriptor in spec.descriptors():
            os.close(descriptor)
    channel, monitor, console = (pair[0] for pair in pairs)
    return Launched(spec, child, channel, monitor, console, stderr)
