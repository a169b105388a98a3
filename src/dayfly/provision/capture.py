"""Captures the files of a machine whose command has ended, as an archive that `dayfly.imagebuild.capture` makes an image of.

The agent writes it (guest/capture.c) as the output of a command. The user controlled the machine, so the archive may be anything:
here it is only stored, and its size limited.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable

from dayfly import files
from dayfly.errors import DayflyError, MachineFailed, NoSpace, Refused
from dayfly.guest.boot import BootMode
from dayfly.guest.frames import Stream
from dayfly.guest.protocol import GuestIdentity, StartRequest, printable
from dayfly.machine.machine import Machine
from dayfly.provision.command import Command
from dayfly.units import format_duration, format_size

LIMIT = 17 * 1024**3
"""The most bytes of an archive: the limit for the files of an image, and their headers."""
PATIENCE = 120.0
"""Seconds that a machine may be silent while it writes its files."""
LONGEST = 4 * 3600.0
"""Seconds for the whole capture."""

_AGENT = {BootMode.AGENT: b"/proc/1/exe", BootMode.SYSTEM: b"/run/dayfly/agent"}
_OF_THE_PARENT = (
    *("dev", "proc", "run", "sys", "tmp"),
    *("etc/hostname", "etc/hosts", "etc/machine-id", "etc/mtab", "etc/resolv.conf", "etc/ssh/ssh_host_*_key*"),
    "var/lib/systemd/random-seed",
)
"""Files that each machine has of its own, or mounts something over. A captured image gets the parent's there."""
_TAIL = 4096


def modules_of(kernel: str) -> str:
    """The folder of a kernel's modules. They are a layer of their own, not a part of the root."""
    return f"usr/lib/modules/{kernel}"


def made_for(places: Iterable[str]) -> list[str]:
    """The mount points of a machine's shares, its links, and the folders above them."""
    paths = [[part for part in place.split("/") if part] for place in places]
    return sorted({"/".join(parts[:end]) for parts in paths for end in range(1, len(parts) + 1)})


class _Archive:
    """Takes what the command writes."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = 0
        self._said = b""

    def take(self, stream: Stream, chunk: bytes) -> None:
        if stream is Stream.STDERR:
            self._said = (self._said + chunk)[-_TAIL:]
            return
        self._size += len(chunk)
        if self._size > LIMIT:
            raise Refused(f"its files are larger than the limit of {format_size(LIMIT)}")
        try:
            files.write_all(self._descriptor, chunk)
        except OSError as error:
            raise NoSpace(f"its files cannot be written to the library: {error.strerror}", "make room there") from error

    @property
    def said(self) -> str:
        """The last line of the agent's error output."""
        lines = [printable(line) for line in self._said.split(b"\n") if line.strip()]
        return lines[-1] if lines else ""


async def capture(machine: Machine, boot: BootMode, kernel: str, places: Iterable[str], descriptor: int) -> None:
    """Write the root of a machine whose job has ended to an open file, without what was added for the job.

    `kernel` is the version of the image's kernel, `places` are the mount points and links. Raises `MachineFailed`, `Refused`
    if the files are too large, or `NoSpace`.
    """
    await machine.again(PATIENCE)
    rules = [f"parents:{path}" for path in (*_OF_THE_PARENT, modules_of(kernel))]
    rules += [f"made:{path}" for path in ("usr/lib/modules", *made_for(places))]
    await _written(machine, boot, ["/", *rules], descriptor)


async def capture_folder(machine: Machine, boot: BootMode, folder: str, descriptor: int) -> None:
    """Like `capture`, for the content of a folder."""
    await machine.again(PATIENCE)
    await _written(machine, boot, [folder], descriptor)


async def _written(machine: Machine, boot: BootMode, words: list[str], descriptor: int) -> None:
    archive = _Archive(descriptor)
    request = StartRequest(
        arguments=(_AGENT[boot], b"capture", *map(os.fsencode, words)),
        environment=(b"PATH=/usr/sbin:/usr/bin:/sbin:/bin",),
        directory=b"/",
        identity=GuestIdentity(0, 0),
        clock=time.time_ns(),
    )
    try:
        async with asyncio.timeout(LONGEST):
            exited = await Command(machine, archive.take, PATIENCE).run(request.encode())
    except TimeoutError:
        raise MachineFailed(f"its files were not complete after {format_duration(LONGEST)}") from None
    except (MachineFailed, NoSpace):
        raise
    except DayflyError as error:
        raise MachineFailed(error.message, error.hint) from error
    if exited.status != 0:
        raise MachineFailed(archive.said or f"the agent ended with {exited.status}")
