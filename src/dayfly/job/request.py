"""The START request to the agent: the job, and the settings of its machine."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from dayfly import inherited
from dayfly.guest.protocol import Mount, Signals, StartRequest
from dayfly.job.description import JobDescription
from dayfly.job.identity import in_guest, limits
from dayfly.job.prepare import Prepared
from dayfly.job.terminal import same_file, size
from dayfly.machine.config import Network
from dayfly.provision.plan import USER_NETWORK, mac


def request(prepared: Prepared) -> StartRequest:
    """The START payload. It is made at the last moment, so that the clock is right. Raises `Refused` if it is too large."""
    description = prepared.description
    return StartRequest(
        arguments=tuple(map(os.fsencode, prepared.command)),
        environment=environment(description, prepared.image.config.environment),
        directory=os.fsencode(prepared.directory),
        identity=in_guest(prepared.principal, root=description.root),
        umask=_umask(),
        limits=limits(prepared.limits),
        terminal=size(0) if prepared.terminal else None,
        merged=not prepared.terminal and same_file(1, 2),
        mounts=tuple(Mount(share.tag, os.fsencode(share.target), share.readonly) for share in prepared.shares),
        hostname=f"dayfly-{prepared.identity}",
        seed=os.urandom(64),
        clock=time.time_ns(),
        network=USER_NETWORK if description.network is Network.NAT else "",
        machine_id=os.urandom(16).hex(),
        mac=mac(prepared.identity) if description.network is Network.NAT else "",
        signals=Signals(*prepared.signals),
        closed=inherited.closed_streams(),
        links=prepared.links,
    )


def environment(description: JobDescription, of_image: Mapping[str, str]) -> tuple[bytes, ...]:
    """The job's variables, and those of the image that it does not set.

    PATH is for programs in the image, so the image's folders come before the caller's, unless PATH was given for this job.
    """
    variables = dict(line.partition(b"=")[::2] for line in description.environment)
    ground = {os.fsencode(name): os.fsencode(value) for name, value in of_image.items()}
    both = ground | variables
    if b"PATH" in ground and b"PATH" in variables and not description.own_path:
        folders = [folder for folder in (*ground[b"PATH"].split(b":"), *variables[b"PATH"].split(b":")) if folder]
        both[b"PATH"] = b":".join(dict.fromkeys(folders))
    return tuple(name + b"=" + value for name, value in both.items())


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
