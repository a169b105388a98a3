"""Checks a job at submission, for the hooks of batch systems, and refuses what would be refused on a node.

The words are the job shell's. The hooks only tell the user early: the node decides.
"""

from __future__ import annotations

from dayfly.batch.jobshell import policy
from dayfly.batch.jobshell.allocation import Allocation, Host, shape
from dayfly.batch.jobshell.request import Request, check_whole
from dayfly.batch.jobshell.shell import boot, network
from dayfly.errors import DayflyError
from dayfly.image.reference import LibraryKind, parse
from dayfly.image.search import Libraries
from dayfly.settings import Settings

_MIB = 1024**2


_UNKNOWN = 1 << 62
"""Bytes of memory assumed for the host that the job will run on."""


def check(request: Request, queue: str, settings: Settings, slots: int = 1) -> None:
    """Raises `Refused` or `NotFound` for what the job shell would refuse, as far as this host can tell.

    The request's memory and address space are those of one of `slots` slots.
    """
    rule, named = policy.rules(settings, queue), queue or "this queue"
    wanted = policy.image(request, rule, named, parallel=False)
    if not wanted:
        return
    boot(request.boot)
    network(request.network)
    check_whole(request.share)
    memory, address_space = request.memory_mib * _MIB, request.address_space_mib * _MIB
    policy.within(memory, rule, named)
    here = Allocation(1, memory * slots, own=True, address_space=address_space * slots)
    shape(here, Host(1, _UNKNOWN, 1), settings.batch_overhead, rule.memory)
    reference = parse(wanted)
    libraries = Libraries(settings)
    if reference.library is LibraryKind.SYSTEM and _readable(libraries):  # the caller's user library is not the job's
        libraries.system.resolve(reference)


def _readable(libraries: Libraries) -> bool:
    """Whether this host can read the site's library."""
    try:
        return libraries.system.layout.exists()
    except (DayflyError, OSError):
        return False
