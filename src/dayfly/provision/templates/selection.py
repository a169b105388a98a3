"""Selects the template that a job's machine is cloned from: an existing one, a copy of the site's, or a new one; or the reason
why there is none.
"""

from __future__ import annotations

import os

from dayfly.machine import scratch
from dayfly.machine.config import Start
from dayfly.machine.qemu import Launched
from dayfly.machine.resources import Memory, OpenResources
from dayfly.provision.cold import driver, open_disks
from dayfly.provision.plan import Plan
from dayfly.provision.templates.key import Key
from dayfly.provision.templates.lookup import FIRMWARE, NoTemplate, key_of, stores
from dayfly.provision.templates.store import OpenTemplate, Store, Unusable
from dayfly.settings import Settings
from dayfly.values import replace

_READONLY_SINCE = (8, 2)
"""The first QEMU that can open a memory file read-only and still give each machine a writable copy of it."""


GUARDED = "the site has no template for it, and the user's own are not used where all jobs get machines"


def obtain(plan: Plan, settings: Settings) -> OpenTemplate | NoTemplate:
    """The template for a machine; it is made if there is none yet.

    Raises `MachineFailed` if no machine of the image starts.
    """
    if plan.config.boot.by_firmware:
        return NoTemplate(FIRMWARE)
    wanted = key_of(plan, settings)
    site, own = stores(settings)
    if plan.guarded:
        template = None if _failed_before(own, wanted) else _usable(site, wanted)
        return _private(template, settings) if template else NoTemplate(GUARDED)
    for store in (site, own):
        template = _usable(store, wanted)
        if template is None:
            continue
        if (template.writable or _readonly(template)) and not (store is site and _failed_before(own, wanted)):
            return template
        template.close()
    if settings.templates_limit == 0:
        return NoTemplate("templates.limit of the settings is 0")

    from dayfly.provision.templates.creation import provide  # noqa: PLC0415 (heavy, and only needed once for each template)

    return provide(plan, settings, wanted)


def _private(template: OpenTemplate, settings: Settings) -> OpenTemplate:
    """The site's template; if its QEMU needs to write to the memory, with an unnamed copy of it that nobody can alter."""
    if template.writable or _readonly(template):
        return template
    memory = scratch.copy(settings.scratch_folder, template.memory)
    os.close(template.memory)
    return replace(template, memory=memory)


def _usable(store: Store, wanted: Key) -> OpenTemplate | None:
    try:
        return store.find(wanted)
    except (Unusable, OSError):  # it is made again, in the user's own store
        return None


def _failed_before(own: Store, wanted: Key) -> bool:
    """Whether this user's clones of it could not be restored recently. A user cannot remove the site's templates."""
    from dayfly.provision.templates import failures  # noqa: PLC0415 (only where the site has templates)

    return bool(failures.noted(own, wanted.name))


def _readonly(template: OpenTemplate) -> bool:
    """Whether its QEMU opens a memory file for reading only."""
    return tuple(int(part) for part in template.about.qemu.split(".")[:2]) >= _READONLY_SINCE


def start_clone(plan: Plan, settings: Settings, template: OpenTemplate) -> Launched:
    """Start a machine that is restored from a template. Raises `DayflyError` if the host lacks something that it needs."""
    with open_clone(plan, settings, template) as resources:
        return driver(settings).start(replace(plan.config, start=Start.CLONE), resources)


def open_clone(plan: Plan, settings: Settings, template: OpenTemplate) -> OpenResources:
    """The files of a clone. Raises `DayflyError` if the host lacks something that it needs."""
    disks = open_disks(plan.image, scratch.copy(settings.scratch_folder, template.scratch))
    memory = Memory(os.dup(template.memory), readonly=_readonly(template))
    state = os.open(f"/proc/self/fd/{template.state}", os.O_RDONLY | os.O_CLOEXEC)  # QEMU reads from the current offset
    return OpenResources(disks, memory=memory, state=state)


def discard(template: OpenTemplate, reason: str, settings: Settings) -> None:
    """Remove a template that cannot be restored, and do not make it again at once."""
    from dayfly.provision.templates import failures, maintenance  # noqa: PLC0415 (not on the path of a job that succeeds)

    _, own = stores(settings)
    failures.note(own, template.name, reason)
    if template.folder.parent == own.folder:
        maintenance.remove(template.folder)
