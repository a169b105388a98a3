"""What would be refused on a node, asked where a job is submitted: by the hooks of batch systems that have some there.

The words are the job shell's. A hook's answer is for the user's sake: the node decides.
"""

from __future__ import annotations

from dayfly.batch import policy
from dayfly.batch.request import NONE, Request
from dayfly.batch.shell import boot, network
from dayfly.errors import DayflyError, NotFound
from dayfly.image.reference import LibraryKind, parse
from dayfly.image.search import Libraries
from dayfly.settings import Settings


def check(request: Request, queue: str, settings: Settings) -> None:
    """Raises `Refused` or `NotFound` for what the job shell would refuse, as far as can be seen from here."""
    wanted = policy.image(request, policy.rules(settings, queue), queue or "this queue", parallel=False)
    if not wanted or wanted == NONE:
        return
    boot(request.boot)
    network(request.network)
    reference = parse(wanted)
    libraries = Libraries(settings)
    if reference.library is not LibraryKind.SYSTEM or not _readable(libraries):
        return  # an image of the user's own: who asks here is somebody else
    try:
        libraries.system.resolve(reference)
    except NotFound as error:
        hint = "`dayfly image list` shows them"
        raise NotFound(f"there is no image {request.image or wanted} in the site's library", hint) from error


def _readable(libraries: Libraries) -> bool:
    """Whether the site's library is seen from this host."""
    try:
        return libraries.system.layout.exists()
    except (DayflyError, OSError):
        return False
