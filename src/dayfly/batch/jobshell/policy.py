"""Whether a batch job gets a machine, and of which image, by the queue's rules and the job's request. Pure.

Whether that machine is allowed is decided by the site's policy, for batch jobs as for all others (`dayfly.policy.rules`): the
rules here decide what a job gets, those what is allowed.
"""

from __future__ import annotations

from collections.abc import Sequence

from dayfly.batch.jobshell.request import NONE, Request
from dayfly.errors import Refused
from dayfly.image.reference import LibraryKind, named_by, parse
from dayfly.settings import Queue, Settings
from dayfly.units import format_size


def no_machines(queue: str) -> Refused:
    """The error if a queue's jobs have no machines. Hooks in other languages use these messages too, rendered from `Refused`."""
    return Refused(f"{queue} has no virtual machines", "remove the options that request one, or use another queue")


def always(queue: str) -> Refused:
    """The error if all of a queue's jobs have machines."""
    return Refused(f"every job of {queue} runs in a virtual machine", "do not request the image none, or use another queue")


def parallel_refused(queue: str) -> Refused:
    """The error for a job with several tasks that would run natively where the site does not allow that."""
    message = f"every job of {queue} runs in a virtual machine, but this one has several tasks and no image"
    return Refused(message, "name an image to get a machine for each task, or use another queue")


def unnamed() -> Refused:
    """The error for a job without an image."""
    return Refused("the job names no image, and the site has no default image", "name an image, like debian:12")


def forbidden(image: str, patterns: Sequence[str]) -> Refused:
    """The error for an image that is not one of those that the site allows."""
    return Refused(f"the image {image} is not allowed here", f"allowed: {', '.join(patterns)}")


def too_much(queue: str, most: int) -> Refused:
    """The error for a job with more than `most` bytes of memory."""
    message = f"a machine of {queue} has at most {format_size(most)} of memory, but the job requests more"
    return Refused(message, "request less, or use another queue")


def rules(settings: Settings, queue: str) -> Queue:
    """The rules of a queue: its own, or else those for all queues."""
    own = settings.batch_queues.get(queue, Queue())
    return Queue(
        own.vm or settings.batch_vm,
        own.image or settings.batch_image,
        own.images or settings.batch_images,
        own.memory or settings.batch_memory,
    )


def image(request: Request, rule: Queue, queue: str, *, parallel: bool, native_parallel: bool = True) -> str:
    """The image of the job's machine; empty: the job runs without one.

    A parallel job (several tasks or nodes) gets machines only if it requests them: its tasks communicate over the host's
    network and memory. Raises `Refused` if the site does not allow it.
    """
    if rule.vm == "never":
        if request.asks:
            raise no_machines(queue)
        return ""
    if request.image == NONE:
        if rule.vm == "always":
            raise always(queue)
        return ""
    if not request.asks and (rule.vm != "always" or parallel):
        if rule.vm == "always" and not native_parallel:
            raise parallel_refused(queue)
        return ""
    wanted = request.image or rule.image
    if not wanted:
        raise unnamed()
    return allowed(wanted, rule.images)


def allowed(wanted: str, patterns: Sequence[str]) -> str:
    """The image to open. Raises `Refused` if it is not one of those that the site allows.

    If the site lists images, a name without a library means the site's image: a user's own image of an allowed name is not
    allowed.
    """
    if not patterns:
        return wanted
    reference = parse(wanted)
    kind = reference.library or LibraryKind.SYSTEM
    meant = f"{kind}/{reference.digest or reference.name}"
    if not named_by(meant, patterns):
        raise forbidden(wanted, patterns)
    return meant


def within(memory: int, rule: Queue, queue: str) -> None:
    """Raises `Refused` for a job with more memory than a machine of its queue may have. In bytes; 0: not given, or no limit."""
    if 0 < rule.memory < memory:
        raise too_much(queue, rule.memory)
