"""The floor of a clone: a script that spawns QEMU on a template, restores it and speaks the minimum of the protocol.

It uses the same command line, template, scratch disk and restore commands as `dayfly run`, and blocking sockets.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from bench.bare import request
from dayfly import process
from dayfly.cli.notices import warn
from dayfly.guest.boot import BootMode
from dayfly.guest.frames import Decoder, FromGuest, ToGuest, encode
from dayfly.guest.protocol import Mount
from dayfly.image.library import OpenImage
from dayfly.image.search import Libraries
from dayfly.machine.command import render
from dayfly.machine.config import Accelerator, CpuModel, Network, Processor, Shape, Share, Start
from dayfly.machine.events import Event, Listener, beforehand
from dayfly.machine.resources import Endpoints
from dayfly.provision.accelerator import EMULATED
from dayfly.provision.plan import Plan, configuration
from dayfly.provision.templates.creation import build
from dayfly.provision.templates.selection import open_clone
from dayfly.provision.templates.store import Kind
from dayfly.settings import Settings, load

HOLD = (b"sh", b"-c", b"echo; read line")
"""A job that writes one byte and then waits."""


@dataclass
class Clone:
    """A spawned clone: QEMU, and the host's ends. `first_byte` and `exited` are times of the monotonic clock, 0 until then."""

    qemu: subprocess.Popen[bytes]
    channel: socket.socket
    events: socket.socket
    monitor: socket.socket
    listener: Listener
    decoder: Decoder
    first_byte: float = 0.0
    exited: float = 0.0

    def end(self) -> None:
        """End the clone, and close the host's ends."""
        self.qemu.kill()
        self.qemu.wait()
        for end in (self.channel, self.events, self.monitor):
            end.close()


class BareClones:
    """Bare clones of one image's template, with `share` (a folder of the host) at the same path, or without a share."""

    def __init__(self, image: str, share: str = "", boot: BootMode | None = None) -> None:
        self.settings: Settings = load()
        self.image: OpenImage = Libraries(self.settings).open(image)
        self._boot = boot or BootMode(self.image.config.boot)
        self._shape = Shape(self.settings.machine_cpus, self.settings.machine_memory)
        self._shares = (Share("share0", share, share, readonly=False),) if share else ()
        self.template = build(
            self.image,
            self.settings,
            Kind.USER,
            shape=self._shape,
            scratch=self.settings.scratch_size,
            boot=self._boot,
            network=Network.NONE,
            shares=len(self._shares),
            notify=warn,
        )

    def spawn(self) -> Clone:
        """A clone that is being restored."""
        config = configuration(
            self.image,
            identity="0000000000",
            processor=Processor(Accelerator.TCG, EMULATED[CpuModel.AUTO]),
            shape=self._shape,
            boot=self._boot,
            shares=self._shares,
            network=Network.NONE,
        )
        plan = Plan(self.image, replace(config, start=Start.CLONE), self.settings.scratch_size)
        resources = open_clone(plan, self.settings, self.template)
        pairs = [socket.socketpair() for _ in range(3)]
        channel, monitor, events = (theirs.fileno() for _, theirs in pairs)
        ends = Endpoints(channel, monitor, events, os.open(os.devnull, os.O_WRONLY))
        pairs[2][0].sendall(beforehand(resources.state))
        argv = render(process.find(self.settings.machine_qemu), plan.config, resources, ends)
        qemu = subprocess.Popen(argv, pass_fds=(*ends.descriptors(), *resources.descriptors()), stdin=subprocess.DEVNULL)
        for _, theirs in pairs:
            theirs.close()
        with resources:
            os.close(ends.console)
        return Clone(qemu, pairs[0][0], pairs[2][0], pairs[1][0], Listener(), Decoder())

    def _start(self, clone: Clone, command: tuple[bytes, ...], *, mounting: bool) -> None:
        asked = request(command)
        if mounting:
            asked = replace(asked, mounts=tuple(Mount(one.tag, os.fsencode(one.target), one.readonly) for one in self._shares))
        clone.channel.sendall(encode(ToGuest.START, asked.encode()))

    def follow(self, clones: list[Clone], command: tuple[bytes, ...], *, until_exit: bool, mounting: bool = False) -> None:
        """Start the command in each clone as soon as it runs, and wait until all have written a byte (or have exited)."""
        poll = select.poll()
        by_end = {}
        for clone in clones:
            for end in (clone.events, clone.channel):
                poll.register(end, select.POLLIN)
                by_end[end.fileno()] = clone
        while not all(clone.exited if until_exit else clone.first_byte for clone in clones):
            for descriptor, _ in poll.poll():
                clone = by_end[descriptor]
                if descriptor == clone.events.fileno():
                    said = clone.events.recv(65536)
                    assert said, "QEMU ended"
                    if Event("RESUME", "") in clone.listener.feed(said):
                        self._start(clone, command, mounting=mounting)
                    continue
                said = clone.channel.recv(1 << 20)
                assert said, "QEMU ended"
                for frame in clone.decoder.feed(said):
                    assert frame.type is not FromGuest.FAILED, frame.payload
                    if frame.type is FromGuest.DATA and not clone.first_byte:
                        clone.first_byte = time.monotonic()
                    elif frame.type is FromGuest.EXITED:
                        clone.exited = time.monotonic()

    def one(self, command: tuple[bytes, ...], *, mounting: bool = False) -> tuple[float, float]:
        """Seconds from before the spawn to the first byte and to the exit report of one clone."""
        begun = time.monotonic()
        clone = self.spawn()
        try:
            self.follow([clone], command, until_exit=True, mounting=mounting)
        finally:
            clone.end()
        return clone.first_byte - begun, clone.exited - begun

    @contextmanager
    def held(self, count: int) -> Iterator[tuple[list[Clone], float]]:
        """`count` clones at once, each of which has written a byte and waits, and the seconds until the last had written it."""
        begun = time.monotonic()
        clones = [self.spawn() for _ in range(count)]
        try:
            self.follow(clones, HOLD, until_exit=False)
            yield clones, max(clone.first_byte for clone in clones) - begun
        finally:
            for clone in clones:
                clone.end()
