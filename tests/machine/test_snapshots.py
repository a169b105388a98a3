"""A machine is saved, goes on, and is saved again; each snapshot is restored as it was then."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from dayfly.errors import MachineFailed
from dayfly.guest.boot import BootMode
from dayfly.guest.protocol import GuestIdentity, StartRequest
from dayfly.image.library import OpenImage
from dayfly.image.search import Libraries
from dayfly.machine import scratch
from dayfly.machine.config import Network, Shape, Start
from dayfly.machine.machine import Machine
from dayfly.machine.resources import DiskFile, Memory, OpenResources
from dayfly.machine.snapshot.description import AgentState, Snapshot
from dayfly.machine.snapshot.restore import restored
from dayfly.machine.snapshot.save import SnapshotFiles, take
from dayfly.provision import probe
from dayfly.provision.cold import driver, open_cold
from dayfly.provision.command import Command
from dayfly.provision.plan import Plan, configuration
from dayfly.settings import Settings
from dayfly.values import replace
from tests.framework.site import Site
from tests.machine.test_steps import loaded

MEMORY = 256 << 20


def files() -> SnapshotFiles:
    return SnapshotFiles(os.memfd_create("state"), os.memfd_create("memory"), {"scratch": os.memfd_create("scratch")})


async def shell(machine: Machine, script: str, *, first: bool = False) -> str:
    """What a script prints that root runs in the machine."""
    if not first:
        await machine.again(60)
    said: list[bytes] = []
    request = StartRequest(
        arguments=(b"/bin/sh", b"-c", script.encode()),
        environment=(b"PATH=/usr/bin:/bin",),
        directory=b"/",
        identity=GuestIdentity(0, 0, (0,)),
        clock=time.time_ns(),
    )
    exited = await Command(machine, lambda _, chunk: said.append(chunk), 60).run(request.encode())
    assert exited.status == 0
    return b"".join(said).decode()


def planned(image: OpenImage, settings: Settings) -> Plan:
    config = configuration(
        image,
        identity="0123456789",
        processor=probe.begin(settings, None, print).way,
        shape=Shape(1, MEMORY),
        boot=BootMode.AGENT,
        shares=(),
        network=Network.NONE,
    )
    return Plan(image, replace(config, start=Start.SAVEABLE), 1 << 30)


@asynccontextmanager
async def restoring(image: OpenImage, settings: Settings, snapshot: Snapshot, of: SnapshotFiles) -> AsyncIterator[Machine]:
    """A machine restored from a snapshot, whose files stay as they are."""
    assert image.modules is not None
    os.lseek(of.state, 0, os.SEEK_SET)
    disks = (image.root.file, image.modules.file)
    opened = OpenResources(
        (*(DiskFile(os.dup(file)) for file in disks), DiskFile(scratch.copy(settings.scratch_folder, of.disks["scratch"]))),
        memory=Memory(os.dup(of.memory)),
        state=os.dup(of.state),
    )
    with opened:
        launched = driver(settings).start(replace(snapshot.config, start=Start.CLONE), opened)
    async with Machine(restored(launched)) as machine:
        yield machine


async def all_of_it(image: OpenImage, settings: Settings) -> None:
    plan = planned(image, settings)
    memory = os.memfd_create("memory")
    os.ftruncate(memory, MEMORY)
    early, late = files(), files()
    with replace(open_cold(plan, settings), memory=Memory(memory)) as resources:
        async with Machine(driver(settings).start(plan.config, resources)) as machine:
            await machine.ready(120)
            await shell(machine, "echo early > /root/disk; echo early > /dev/shm/memory; sync", first=True)
            await machine.again(60)
            first = await take(machine, resources, early, AgentState.IDLE)
            await shell(machine, "echo late > /root/disk; echo late > /dev/shm/memory; sync", first=True)
            await machine.again(60)
            second = await take(machine, resources, late, AgentState.IDLE)
            assert await shell(machine, "cat /root/disk /dev/shm/memory", first=True) == "late\nlate\n"  # it has gone on
    for snapshot, of, word in ((first, early, "early"), (second, late, "late"), (first, early, "early")):
        async with restoring(image, settings, snapshot, of) as machine:
            assert await shell(machine, "cat /root/disk /dev/shm/memory", first=True) == f"{word}\n{word}\n"
            await shell(machine, "echo changed > /root/disk; echo changed > /dev/shm/memory")


def test_a_machine_is_saved_twice_and_goes_on(site: Site) -> None:
    settings = loaded(site)
    with Libraries(settings).open("debian:12") as image:
        asyncio.run(all_of_it(image, settings))


async def without_a_file(image: OpenImage, settings: Settings) -> None:
    plan = planned(image, settings)
    plan = replace(plan, config=replace(plan.config, start=Start.BOOT))
    with open_cold(plan, settings) as resources:
        async with Machine(driver(settings).start(plan.config, resources)) as machine:
            await machine.ready(120)
            with pytest.raises(MachineFailed, match="memory is not in a file"):
                await take(machine, resources, files(), AgentState.IDLE)
            assert await shell(machine, "echo alive", first=True) == "alive\n"


def test_a_machine_whose_memory_is_in_no_file_is_not_saved(site: Site) -> None:
    settings = loaded(site)
    with Libraries(settings).open("debian:12") as image:
        asyncio.run(without_a_file(image, settings))
