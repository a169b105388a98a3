"""The key of the template that a machine could be cloned from, and the stores to look in. On the hot path of every job."""

from __future__ import annotations

from dayfly import process
from dayfly.provision.agent import agent_digest
from dayfly.provision.plan import Plan
from dayfly.provision.templates.key import Key, key
from dayfly.provision.templates.store import Kind, Store
from dayfly.settings import Settings
from dayfly.values import dataclass

FIRMWARE = "the image is a whole disk, which firmware boots"
"""Why such an image has no templates."""


@dataclass(frozen=True)
class NoTemplate:
    """Why a job's machine has a cold start."""

    reason: str


@dataclass(frozen=True)
class Origin:
    """How a machine started: from the template of this name and QEMU; or cold, and why."""

    template: str = ""
    qemu: str = ""
    cold_reason: str = ""


def stores(settings: Settings) -> tuple[Store, Store]:
    """The site's templates, and the user's."""
    return Store(settings.templates_system, Kind.SYSTEM), Store(settings.templates_user, Kind.USER)


def key_of(plan: Plan, settings: Settings) -> Key:
    """The key of a machine's template. Raises `ProgramMissing`."""
    content = {"image": plan.image.digest, "agent": agent_digest(), "scratch": str(plan.scratch)}
    return key(plan.config, process.find(settings.machine_qemu, "qemu-system-x86"), content)
