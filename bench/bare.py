"""The floor of a cold start: a script that spawns QEMU on an image and speaks the minimum of the protocol, without Dayfly.

It uses the same command line, kernel, initramfs, root and scratch disk as `dayfly run`, and blocking sockets.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from dataclasses import dataclass

from dayfly import process
from dayfly.guest.boot import BootMode
from dayfly.guest.frames import Decoder, Frame, FromGuest, ToGuest, encode
from dayfly.guest.initramfs import agent_archive
from dayfly.guest.protocol import GuestIdentity, StartRequest
from dayfly.image.library import OpenImage
from dayfly.image.search import Libraries
from dayfly.machine import scratch
from dayfly.machine.command import render
from dayfly.machine.config import Accelerator, CpuModel, Disk, MachineConfig, Network, Shape
from dayfly.machine.resources import Endpoints, OpenResources
from dayfly.provision.accelerator import EMULATED
from dayfly.provision.agent import AGENT_ARCHIVE
from dayfly.provision.cold import open_disks
from dayfly.settings import Settings, load


@dataclass(frozen=True)
class BareRun:
    """Seconds from the spawn until the agent is ready, the first byte, the exit report, and the end of QEMU."""

    ready: float
    first_byte: float
    exited: float
    gone: float


class Bare:
    """Bare machines of one image."""

    def __init__(self, image: str, boot: BootMode = BootMode.AGENT, init: bytes | None = None) -> None:
        self.settings: Settings = load()
        self.image: OpenImage = Libraries(self.settings).open(image)
        self._boot = boot
        self._init = AGENT_ARCHIVE.read_bytes() if init is None else agent_archive(init)

    def spawn(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        """A QEMU process, and the host's end of the channel."""
        image, settings = self.image, self.settings
        assert image.kernel is not None
        initramfs = os.memfd_create("initramfs")
        boot_modules = image.boot_modules.path.read_bytes() if image.boot_modules else b""
        os.write(initramfs, self._init + boot_modules)
        disks = [Disk("root", image.root.form, readonly=True)]
        disks += [Disk("modules", image.modules.form, readonly=True)] if image.modules else []
        disks += [Disk("scratch", scratch.FILESYSTEM, readonly=False)]
        empty = scratch.create(settings.scratch_folder, settings.scratch_size, settings.cache_folder)
        config = MachineConfig(
            identity="0000000000",
            label="bare",
            accelerator=Accelerator.TCG,
            cpu=EMULATED[CpuModel.AUTO],
            shape=Shape(settings.machine_cpus, settings.machine_memory),
            boot=self._boot,
            command_line="",
            disks=tuple(disks),
            shares=(),
            network=Network.NONE,
            mac="",
        )
        resources = OpenResources(open_disks(image, empty), kernel=os.dup(image.kernel.file), initramfs=initramfs)
        pairs = [socket.socketpair() for _ in range(3)]
        channel, monitor, events = (theirs.fileno() for _, theirs in pairs)
        ends = Endpoints(channel, monitor, events, os.open(os.devnull, os.O_WRONLY))
        argv = render(process.find(settings.machine_qemu), config, resources, ends)
        qemu = subprocess.Popen(argv, pass_fds=(*ends.descriptors(), *resources.descriptors()), stdin=subprocess.DEVNULL)
        for _, theirs in pairs:
            theirs.close()
        with resources:
            os.close(ends.console)
        self._monitors = pairs[1][0], pairs[2][0]  # open, but not read
        return qemu, pairs[0][0]

    def run(self, *command: bytes) -> BareRun:
        """Boot, run the command, and end the machine."""
        begun = time.monotonic()
        qemu, channel = self.spawn()
        decoder = Decoder()
        times: dict[str, float] = {}
        try:
            while "exited" not in times:
                for frame in decoder.feed(channel.recv(1 << 20)):
                    self._follow(frame, channel, times, command)
        finally:
            qemu.kill()
            qemu.wait()
            channel.close()
        times["gone"] = time.monotonic()
        return BareRun(*(times.get(name, begun) - begun for name in ("ready", "first_byte", "exited", "gone")))

    def _follow(self, frame: Frame, channel: socket.socket, times: dict[str, float], command: tuple[bytes, ...]) -> None:
        now = time.monotonic()
        if frame.type is FromGuest.STAGE and frame.payload == b"\2":
            times["ready"] = now
            channel.sendall(encode(ToGuest.START, request(command).encode()) + encode(ToGuest.END))
        elif frame.type is FromGuest.DATA:
            times.setdefault("first_byte", now)
        elif frame.type is FromGuest.EXITED:
            times["exited"] = now


def request(command: tuple[bytes, ...]) -> StartRequest:
    """The smallest possible request for a job."""
    return StartRequest(
        arguments=command,
        environment=(b"PATH=/usr/bin:/bin",),
        directory=b"/",
        identity=GuestIdentity(0, 0, (0,)),
        hostname="bare",
        seed=os.urandom(64),
        clock=time.time_ns(),
        machine_id="0" * 32,
    )
