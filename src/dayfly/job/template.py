"""Which template a job's machine is cloned from: found, or copied from the site's, or made; or why there is none."""

from __future__ import annotations

import os

from dayfly import process
from dayfly.errors import DayflyError
from dayfly.image.library import OpenImage
from dayfly.job.prepare import AGENT_ARCHIVE, Prepared, opened
from dayfly.machine import scratch
from dayfly.machine.launch import Launched, launch
from dayfly.machine.spec import Backing, MachineSpec
from dayfly.machine.template.key import Key, key
from dayfly.machine.template.store import Kind, OpenTemplate, Store, Unusable
from dayfly.settings import Settings
from dayfly.values import dataclass, replace

_READONLY_SINCE = (8, 2)
"""The first QEMU that can open a memory file for reading only and still give each machine a writable copy of it."""


FIRMWARE = "the image is a whole disk, which firmware boots"
"""Why there are no templates of such an image."""


GUARDED = "the site has no template for it, and the user's own do not count where all jobs get machines"


@dataclass(frozen=True)
class NoTemplate:
    """Why a job's machine boots."""

    reason: str


@dataclass(frozen=True)
class Origin:
    """What a machine came from: the name of its template and that one's QEMU; or, where it boots, why."""

    template: str = ""
    qemu: str = ""
    cold_reason: str = ""


def stores(settings: Settings) -> tuple[Store, Store]:
    """The site's templates, and the user's."""
    return Store(settings.templates_system, Kind.SYSTEM), Store(settings.templates_user, Kind.USER)


def key_of(planned: MachineSpec, image: OpenImage, settings: Settings, size: int) -> Key:
    """The key of a machine's template. `size` is that of its scratch disk, in bytes. Raises `ProgramMissing`."""
    content = {"image": image.digest, "agent": agent_digest(), "scratch": str(size)}
    return key(planned, process.find(settings.machine_qemu, "qemu-system-x86"), content)


def agent_digest() -> str:
    """Which agent this Dayfly has."""
    try:
        with open(AGENT_ARCHIVE.with_suffix(".sha256")) as file:  # noqa: PTH123 (on the way to every job's start)
            return file.read().strip()
    except FileNotFoundError:
        raise DayflyError("this installation of Dayfly has no guest agent", "install it by pip, which builds it") from None


def obtain(prepared: Prepared, settings: Settings, planned: MachineSpec) -> OpenTemplate | NoTemplate:
    """The template for a job's machine: made, when there is none yet.

    Raises `MachineFailed` when no machine of the image comes up.
    """
    if prepared.boot.by_firmware:
        return NoTemplate(FIRMWARE)
    if prepared.description.cold:
        return NoTemplate("asked for")
    wanted = key_of(planned, prepared.image, settings, prepared.description.scratch)
    site, own = stores(settings)
    if prepared.description.guarded:
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

    from dayfly.job.templating import provide  # noqa: PLC0415 (heavy, and needed once for each template)

    return provide(prepared, settings, planned, wanted)


def _private(template: OpenTemplate, settings: Settings) -> OpenTemplate:
    """The site's template, where its QEMU needs it with a copy of its memory that has no name, so that nobody can alter it."""
    if template.writable or _readonly(template):
        return template
    memory = scratch.copy(settings.scratch_folder, template.memory)
    os.close(template.memory)
    return replace(template, memory=memory)


def _usable(store: Store, wanted: Key) -> OpenTemplate | None:
    try:
        return store.find(wanted)
    except (Unusable, OSError):  # it is made anew, in the user's own store
        return None


def _failed_before(own: Store, wanted: Key) -> bool:
    """Whether this user's clones of it could not be restored a short while ago; a user cannot do away with the site's."""
    from dayfly.machine.template import failures  # noqa: PLC0415 (only where the site has templates)

    return bool(failures.noted(own, wanted.name))


def _readonly(template: OpenTemplate) -> bool:
    """Whether its QEMU opens a memory file for reading only."""
    return tuple(int(part) for part in template.about.qemu.split(".")[:2]) >= _READONLY_SINCE


def clone(prepared: Prepared, settings: Settings, planned: MachineSpec, template: OpenTemplate) -> Launched:
    """Spawn a machine that is restored from a template. Raises `DayflyError` where the host lacks what it needs."""
    return launch(settings.machine_qemu, cloning(planned, prepared.image, settings, template))


def cloning(planned: MachineSpec, image: OpenImage, settings: Settings, template: OpenTemplate) -> MachineSpec:
    """The plan of a clone, all of it open. Raises `DayflyError` where the host lacks what it needs."""
    spec = opened(planned, image, scratch.copy(settings.scratch_folder, template.scratch))
    memory = Backing(os.dup(template.memory), shared=False, readonly=_readonly(template))
    state = os.open(f"/proc/self/fd/{template.state}", os.O_RDONLY | os.O_CLOEXEC)  # QEMU reads it from where it stands
    return replace(spec, backing=memory, state=state)


def discard(template: OpenTemplate, reason: str, settings: Settings) -> None:
    """Do away with a template that cannot be restored, and do not make it again at once."""
    from dayfly.machine.template import failures, upkeep  # noqa: PLC0415 (not on the way of a job that goes well)

    _, own = stores(settings)
    failures.note(own, template.name, reason)
    if template.folder.parent == own.folder:
        upkeep.remove(template.folder)
