"""Makes templates: once for all processes that need the same one, and only if there is room for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Collection
from pathlib import Path

from dayfly import process
from dayfly.errors import DayflyError, MachineFailed, NoSpace, Refused, in_words
from dayfly.guest.boot import BootMode
from dayfly.image.library import OpenImage
from dayfly.machine.config import Network, Processor, Shape, Share, Start
from dayfly.machine.failure import StartFailed
from dayfly.machine.machine import Machine
from dayfly.machine.qemu import Launched
from dayfly.machine.resources import Memory
from dayfly.machine.snapshot.description import Snapshot, render
from dayfly.machine.snapshot.save import save
from dayfly.notices import Notify
from dayfly.provision.agent import agent_digest
from dayfly.provision.cold import driver, open_cold
from dayfly.provision.host import check_shape
from dayfly.provision.plan import Plan, boot_mode, configuration
from dayfly.provision.probe import tried
from dayfly.provision.templates import failures
from dayfly.provision.templates.key import Key, program
from dayfly.provision.templates.lookup import FIRMWARE, NoTemplate, key_of, stores
from dayfly.provision.templates.maintenance import collect, sweep
from dayfly.provision.templates.publish import creating, write
from dayfly.provision.templates.rehearsal import rehearse
from dayfly.provision.templates.store import FILES, MEMORY, SCRATCH, STATE, About, Kind, OpenTemplate, Store, Unusable
from dayfly.settings import Settings
from dayfly.units import timestamp
from dayfly.values import replace

_ROOM = 256 * 1024**2
"""Bytes that must be free before one is made: a booted machine has touched about 100 MiB, and is copied once."""


def provide(plan: Plan, settings: Settings, wanted: Key) -> OpenTemplate | NoTemplate:
    """Copy the site's template into the user's store, or make one there; or return why not.

    What failed recently is not tried again for every job. Raises `StartFailed` if no machine of the image starts: then the
    job's would not either.
    """
    site, own = stores(settings)
    reason = failures.noted(own, wanted.name)
    if reason:
        return NoTemplate(reason)
    try:
        found = _adopted(site, own, wanted, settings)
        return found or make(own, wanted, plan, settings)
    except StartFailed:
        raise
    except (DayflyError, OSError) as error:
        reason = in_words(error)
        if not isinstance(error, NoSpace):
            failures.note(own, wanted.name, reason)
        return NoTemplate(reason)


def _adopted(site: Store, own: Store, wanted: Key, settings: Settings) -> OpenTemplate | None:
    """A copy of the site's template for the user: QEMU before 8.2 opens the memory for writing, so it cannot use the site's."""
    try:
        source = site.find(wanted)
    except (Unusable, OSError):
        return None
    if source is None:
        return None
    parts = {MEMORY: source.memory, STATE: source.state, SCRATCH: source.scratch}
    digests = {part: source.about.files[part].digest for part in FILES}
    try:
        return _once(own, wanted, settings, lambda folder: write(folder, own.kind, parts, source.about, digests=digests))
    finally:
        source.close()


def make(store: Store, wanted: Key, plan: Plan, settings: Settings) -> OpenTemplate:
    """Boot a machine like the planned one, and save it as a template. Processes that need the same one meanwhile wait for it.

    Raises `StartFailed` if it does not start, `NoSpace`, or `DayflyError` if it cannot be saved.
    """

    def boot(folder: Path) -> None:
        begun = time.monotonic()
        with contextlib.ExitStack() as stack:
            parts, snapshot = _saved(plan, settings, folder, stack)
            seconds, made = round(time.monotonic() - begun, 3), timestamp(time.time())
            about = About(wanted.facts, plan.scratch, made, seconds, render(snapshot), {})
            write(folder, store.kind, parts, about)

    return _once(store, wanted, settings, boot)


def _once(store: Store, wanted: Key, settings: Settings, fill: Callable[[Path], None]) -> OpenTemplate:
    """The template in this store: made by `fill`, unless another process was first. The least recently used ones are removed to
    make room.
    """
    sweep(store)
    with creating(store, wanted.name) as folder:
        template = _found(store, wanted)
        if template is not None:
            return template
        _check_room(store)
        fill(folder)
    collect(store, settings.templates_limit, spare=wanted.name)
    template = _found(store, wanted)
    if template is None:
        raise DayflyError(f"the template {wanted.name} was removed right after it was made")
    return template


def build(
    image: OpenImage,
    settings: Settings,
    kind: Kind,
    *,
    shape: Shape,
    scratch: int,
    boot: BootMode | None,
    network: Network,
    shares: int,
    notify: Notify,
) -> OpenTemplate:
    """Make a template before the first job, or find it. `scratch` is in bytes, `shares` how many folders its jobs share.

    If it is not known yet whether KVM works, this machine is the probe, as a job's would be. Raises as `make`.
    """
    check_shape(shape, scratch)
    boots = boot_mode(image, boot)
    if boots.by_firmware:
        raise Refused(f"a template is not possible: {FIRMWARE}", "its machines boot for each job")
    store = next(store for store in stores(settings) if store.kind is kind)

    def made(processor: Processor, seconds: float) -> OpenTemplate:
        config = configuration(
            image,
            identity=os.urandom(5).hex(),
            processor=processor,
            shape=shape,
            boot=boots,
            shares=tuple(Share(f"share{index}", "", "", readonly=True) for index in range(shares)),
            network=network,
        )
        plan = Plan(image, config, scratch)
        wanted = key_of(plan, settings)
        failures.forget(store, wanted.name)
        return make(store, wanted, plan, replace(settings, machine_boot_timeout=seconds))

    return tried(settings, made, notify)


def outdated(about: About, settings: Settings, digests: Collection[str]) -> str:
    """Why no job will use a template any more (may be empty). `digests` are those of the existing images."""
    facts = about.facts
    if facts.get("image") not in digests:
        return "its image is not in any library"
    if facts.get("agent") != agent_digest():
        return "it was made by another version of Dayfly"
    if facts.get("qemu") != program(process.find(settings.machine_qemu, "qemu-system-x86")):
        return "it was made by another QEMU"
    return ""


def _saved(plan: Plan, settings: Settings, folder: Path, stack: contextlib.ExitStack) -> tuple[dict[str, int], Snapshot]:
    """Boot a machine and save it: open files with its parts, and their description.

    They are in memory: a disk that fills up under a machine's memory would kill it. Its share is an empty folder, so that the
    machine sees no files before it is a job's.
    """
    parts = {part: os.memfd_create(part, os.MFD_CLOEXEC) for part in (MEMORY, STATE)}
    for descriptor in parts.values():
        stack.callback(os.close, descriptor)
    os.ftruncate(parts[MEMORY], plan.config.shape.memory // 1024 * 1024)
    shares = tuple(Share(share.tag, str(folder), "", readonly=True) for share in plan.config.shares)
    config = replace(plan.config, shares=shares, start=Start.SAVEABLE)
    with replace(open_cold(plan, settings), memory=Memory(os.dup(parts[MEMORY]))) as resources:
        parts[SCRATCH] = os.dup(resources.disks[-1].descriptor)
        stack.callback(os.close, parts[SCRATCH])
        launched = driver(settings).start(config, resources)
    return parts, asyncio.run(_boot_and_save(launched, parts[STATE], settings.machine_boot_timeout))


def _found(store: Store, wanted: Key) -> OpenTemplate | None:
    """Like `Store.find`; None for one that cannot be used, so that it is made again."""
    try:
        return store.find(wanted)
    except Unusable:
        return None


def _check_room(store: Store) -> None:
    free = os.statvfs(store.folder)
    if free.f_bavail * free.f_frsize < _ROOM:
        hint = "make room there, or set templates.user in the settings to another folder"
        raise NoSpace(f"no space for a template in {store.folder}", hint)


async def _boot_and_save(launched: Launched, state: int, timeout: float) -> Snapshot:
    """Wait until the machine is up, rehearse a job in it, and save it. It is gone afterwards. `timeout` is for the boot, in
    seconds.

    Raises `StartFailed` if it does not start, `MachineFailed` if it cannot be saved.
    """
    async with Machine(launched) as machine:
        await machine.ready(timeout)
        try:
            await rehearse(machine)
        except MachineFailed as error:
            raise await machine.killed() or MachineFailed(f"the machine could not be saved: {error}") from error
        return await save(machine, state)
