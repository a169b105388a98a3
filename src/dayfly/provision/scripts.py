"""Runs shell scripts in a machine of their own, and captures its files as an archive afterwards: the steps of a recipe."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

from dayfly import principal, process
from dayfly.errors import DayflyError
from dayfly.guest.boot import BootMode
from dayfly.guest.frames import Stream
from dayfly.guest.protocol import Exited, GuestIdentity, Mount, StartRequest, printable
from dayfly.image.library import OpenImage
from dayfly.machine.config import Network, Processor, Shape, Share
from dayfly.machine.machine import Machine
from dayfly.notices import Notify
from dayfly.policy.permission import permit, shared
from dayfly.policy.rules import MachineRequest
from dayfly.provision import capture
from dayfly.provision.cold import start_cold
from dayfly.provision.command import Command
from dayfly.provision.host import check_shape
from dayfly.provision.plan import USER_NETWORK, Plan, configuration, mac
from dayfly.provision.probe import tried
from dayfly.settings import Settings
from dayfly.values import dataclass

Said = Callable[[int, str], None]
"""Called with the script's number, from 1 on, and each line that it writes."""

_TAIL_LINES = 12
_LINE_LIMIT = 4096
_SEARCH_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class StepFailed(DayflyError):
    """A script did not end with status 0: which one, how, and its last lines."""

    def __init__(self, what: str, number: int, count: int, how: str, tail: list[str]) -> None:
        self.number = number
        lines = "".join(f"\n  | {line}" for line in tail)
        super().__init__(f"{what} {number} of {count} {how}{lines}")


@dataclass(frozen=True)
class Scripts:
    """Shell scripts that run one after the other as root, with their environment (`NAME=value`).

    `folder` is the one to capture; for `/`, files that belong to the machine and not to its image are left out. `what` is the
    name of a script in messages, before its number.
    """

    scripts: tuple[str, ...]
    shape: Shape
    scratch: int
    network: Network = Network.NONE
    shares: tuple[Share, ...] = ()
    environment: tuple[str, ...] = ()
    folder: str = "/"
    what: str = "run step"


def run_scripts(image: OpenImage, settings: Settings, wanted: Scripts, archive: int, said: Said, notify: Notify) -> None:
    """Run the scripts in a machine of this image, and write the files to the open file `archive`.

    Raises `StepFailed`, `Denied` if the site's policy does not allow such a machine, `MachineFailed` and other
    `DayflyError`s.
    """
    check_shape(wanted.shape, wanted.scratch)
    folders = shared((share.source, share.readonly) for share in wanted.shares)
    request = MachineRequest(str(wanted.network), wanted.shape.cpus, wanted.shape.memory, folders, None, root=True, capture=True)
    seconds = permit(image, settings, principal.current(), request)
    process.raise_limits()

    def attempt(processor: Processor, boot_seconds: float) -> None:
        asyncio.run(_Attempt(image, settings, wanted, said, processor).run(archive, boot_seconds, seconds))

    tried(settings, attempt, notify)


class _Attempt:
    def __init__(self, image: OpenImage, settings: Settings, wanted: Scripts, said: Said, processor: Processor) -> None:
        self._image = image
        self._settings = settings
        self._wanted = wanted
        self._said = said
        self._identity = os.urandom(5).hex()
        self._boot = BootMode(image.config.boot)
        self._processor = processor

    async def run(self, archive: int, boot_seconds: float, seconds: float | None) -> None:
        """Run everything; `seconds` is the policy's limit."""
        wanted = self._wanted
        config = configuration(
            self._image,
            identity=self._identity,
            processor=self._processor,
            shape=wanted.shape,
            boot=self._boot,
            shares=wanted.shares,
            network=wanted.network,
        )
        launched = start_cold(Plan(self._image, config, wanted.scratch), self._settings)
        try:
            async with asyncio.timeout(seconds), Machine(launched) as machine:
                await machine.ready(boot_seconds)
                for number in range(1, len(wanted.scripts) + 1):
                    await self._step(machine, number)
                await self._capture(machine, archive)
        except TimeoutError:
            raise DayflyError(f"the site's policy limits such a machine to {seconds:g} s") from None

    async def _step(self, machine: Machine, number: int) -> None:
        lines = _Lines(lambda line: self._said(number, line))
        if number > 1:
            await machine.again(capture.PATIENCE)
        exited = await Command(machine, lines.take).run(self._request(number).encode())
        lines.end()
        if exited.status != 0:
            raise StepFailed(self._wanted.what, number, len(self._wanted.scripts), _how(exited), lines.last)

    def _request(self, number: int) -> StartRequest:
        wanted, first = self._wanted, number == 1
        nat = wanted.network is Network.NAT and first
        environment = dict(variable.partition("=")[::2] for variable in (_SEARCH_PATH, "HOME=/root", *wanted.environment))
        return StartRequest(
            arguments=(b"/bin/sh", b"-e", b"-c", os.fsencode(wanted.scripts[number - 1])),
            environment=tuple(os.fsencode(f"{name}={value}") for name, value in environment.items()),
            directory=b"/",
            identity=GuestIdentity(0, 0, (0,)),
            clock=time.time_ns(),
            hostname=f"dayfly-{self._identity}" if first else "",
            seed=os.urandom(64) if first else b"",
            machine_id=os.urandom(16).hex() if first else "",
            merged=True,
            mounts=tuple(Mount(share.tag, os.fsencode(share.target), share.readonly) for share in wanted.shares),
            network=USER_NETWORK if nat else "",
            mac=mac(self._identity) if nat else "",
        )

    async def _capture(self, machine: Machine, archive: int) -> None:
        if self._wanted.folder != "/":
            await capture.capture_folder(machine, self._boot, self._wanted.folder, archive)
            return
        shares = [share.target for share in self._wanted.shares]
        await capture.capture(machine, self._boot, self._image.config.kernel.version, shares, archive)


class _Lines:
    """Splits a script's output into lines."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._rest = b""
        self.last: list[str] = []

    def take(self, _: Stream, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).replace(b"\r", b"\n").split(b"\n")
        self._rest = self._rest[-_LINE_LIMIT:]
        for line in lines:
            self._tell(line)

    def end(self) -> None:
        self._tell(self._rest)

    def _tell(self, line: bytes) -> None:
        text = printable(line[:_LINE_LIMIT].replace(b"\t", b" ")).rstrip()
        if text:
            self.last = [*self.last, text][-_TAIL_LINES:]
            self._report(text)


def _how(exited: Exited) -> str:
    memory = ", out of memory" if exited.oom_kills else ""
    return (f"died of signal {exited.signal}" if exited.signal else f"exited with {exited.code}") + memory
