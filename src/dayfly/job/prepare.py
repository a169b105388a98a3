"""Prepares a job: its shares, its directory, its open and locked image, and its permission.

On the hot path of every job: nothing heavy is imported here.
"""

from __future__ import annotations

import os
import time

from dayfly import inherited, process
from dayfly.errors import DayflyError, Refused
from dayfly.guest.boot import BootMode
from dayfly.guest.protocol import Link
from dayfly.image.library import OpenImage
from dayfly.image.manifest import ImageConfig
from dayfly.job.description import Folder, JobDescription, check_listable, hides_image, leads_to, mounts
from dayfly.machine.config import Processor, Share
from dayfly.notices import Notify
from dayfly.policy.permission import permit, shared
from dayfly.policy.rules import MachineRequest
from dayfly.principal import Principal
from dayfly.provision.host import check_shape
from dayfly.provision.plan import Plan, boot_mode, configuration
from dayfly.settings import Settings
from dayfly.values import dataclass, replace


@dataclass(frozen=True)
class Prepared:
    """A job that is ready for a machine. `begun` is on the monotonic clock, `begun_at` since the epoch, in seconds."""

    description: JobDescription
    principal: Principal
    image: OpenImage
    command: tuple[str, ...]
    identity: str
    boot: BootMode
    terminal: bool
    shares: tuple[Share, ...]
    links: tuple[Link, ...]
    directory: str
    limits: tuple[tuple[int, int], ...]
    signals: tuple[int, int]
    begun: float
    begun_at: float


def prepare(description: JobDescription, principal: Principal, image: OpenImage, begun: float, notify: Notify) -> Prepared:
    """Check the description and fill in what it leaves open. Raises `DayflyError`."""
    check_shape(description.shape, description.scratch)
    boot = boot_mode(image, description.boot)
    if boot.by_firmware and description.capture is not None:
        name = image.name or image.digest
        raise Refused(f"{name} is a whole disk, whose machines cannot be saved", "use an image with a kernel")
    shares, links, directory = _folders(description, principal, image.config, notify)
    return Prepared(
        description=description,
        principal=principal,
        image=image,
        command=_command(description, image),
        identity=os.urandom(5).hex(),
        boot=boot,
        terminal=_terminal(description),
        shares=shares,
        links=links,
        directory=directory,
        limits=process.limits(),
        signals=inherited.signals(),
        begun=begun,
        begun_at=time.time() - (time.monotonic() - begun),
    )


def plan_of(prepared: Prepared, processor: Processor) -> Plan:
    """The machine for a job."""
    description = prepared.description
    config = configuration(
        prepared.image,
        identity=prepared.identity,
        processor=processor,
        shape=description.shape,
        boot=prepared.boot,
        shares=prepared.shares,
        network=description.network,
    )
    return Plan(prepared.image, config, description.scratch, description.guarded)


def permitted(prepared: Prepared, settings: Settings) -> Prepared:
    """The job as permitted: with the policy's time limit if it has none of its own. Raises `Denied`, or `FileErrors`."""
    job = prepared.description
    shares = shared((share.source, share.readonly) for share in prepared.shares)
    request = MachineRequest(
        str(job.network), job.shape.cpus, job.shape.memory, shares, job.timeout, job.root, job.capture is not None
    )
    end = permit(prepared.image, settings, prepared.principal, request, job.batch.get("account", ""), job.account)
    return prepared if end == job.timeout else replace(prepared, description=replace(job, timeout=end))


def _terminal(description: JobDescription) -> bool:
    there_is_one = os.isatty(0) and os.isatty(1)
    if description.terminal and not there_is_one:
        raise DayflyError("-t needs a terminal, but stdin or stdout is not one", "remove -t if streams are redirected")
    return there_is_one if description.terminal is None else description.terminal


def _command(description: JobDescription, image: OpenImage) -> tuple[str, ...]:
    """The command: the job's, or else the image's own."""
    command = description.command or (*image.config.entrypoint, *image.config.command)
    if not command:
        hint = "write it after --: dayfly run IMAGE [options] -- COMMAND [ARGUMENT ...]"
        raise Refused(f"no command was given, and {description.image} has no command of its own", hint)
    return command


def _folders(
    description: JobDescription, principal: Principal, config: ImageConfig, notify: Notify
) -> tuple[tuple[Share, ...], tuple[Link, ...], str]:
    """The machine's shares, the links to them, and the directory that the job starts in.

    The image's own command starts in the image's directory; any other does so only if the caller's directory is not shared.
    """
    wanted, callers_own = description.share_directory, Folder(description.directory)
    shared = wanted and not hides_image(leads_to(callers_own)[0].path)
    if wanted and not shared:
        notify(f"the working directory {description.directory} is not shared: it would hide the image's own")
    own = (callers_own,) if shared else ()
    callers = leads_to(callers_own)[0].path if shared else ""
    choice = (callers, config.directory) if description.command else (config.directory, callers)
    shares, links = mounts((*own, *description.shares))
    check_listable(shares)
    return shares, links, description.workdir or choice[0] or choice[1] or _home(description, principal)


def _home(description: JobDescription, principal: Principal) -> str:
    return "/root" if description.root else principal.home()
