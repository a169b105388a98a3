"""Whether a batch job gets a machine, and of which image: the queue's rules over the job's wish. Pure.

Whether that machine may then be, with what, is the site's policy's to say, for batch jobs as for all others
(`dayfly.job.policy`): these rules decide what a job gets, those what anybody may have.
"""

from __future__ import annotations

from collections.abc import Sequence

from dayfly.batch.request import NONE, Request
from dayfly.errors import Refused
from dayfly.image.reference import LibraryKind, named_by, parse
from dayfly.settings import Queue, Settings


def rules(settings: Settings, queue: str) -> Queue:
    """What holds for a queue: what the site says of it, else what it says of all."""
    own = settings.batch_queues.get(queue, Queue())
    return Queue(own.vm or settings.batch_vm, own.image or settings.batch_image, own.images or settings.batch_images)


def image(request: Request, rule: Queue, queue: str, *, parallel: bool) -> str:
    """The image of the job's machine; empty: the job runs without one.

    A parallel job (several tasks or nodes) gets machines only when it asks for them: its tasks talk to each other over the host's
    network and memory. Raises `Refused` for what the site does not allow.
    """
    if rule.vm == "never":
        if request.asks:
            raise Refused(f"{queue} has no virtual machines", "leave the options that ask for one out, or submit elsewhere")
        return ""
    if request.image == NONE:
        if rule.vm == "always":
            raise Refused(f"every job of {queue} runs in a virtual machine", "leave the image none out, or submit elsewhere")
        return ""
    if not request.asks and (rule.vm != "always" or parallel):
        return ""
    wanted = request.image or rule.image
    if not wanted:
        raise Refused("the job names no image, and the site has no default one", "name an image, like debian:12")
    return allowed(wanted, rule.images)


def allowed(wanted: str, patterns: Sequence[str]) -> str:
    """The image as it is to be opened. Raises `Refused` when the site names images, and this is none of them.

    Where it names some, a name without a library means the site's: a user's own image of an allowed name is not allowed with it.
    """
    if not patterns:
        return wanted
    reference = parse(wanted)
    kind = reference.library or LibraryKind.SYSTEM
    meant = f"{kind}/{reference.digest or reference.name}"
    if not named_by(meant, patterns):
        raise Refused(f"the image {wanted} is not allowed here", f"these are: {', '.join(patterns)}")
    return meant
