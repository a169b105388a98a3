"""Whether a batch job gets a machine, and of which image: the queue's rules over the job's wish. Pure.

Whether that machine may then be, with what, is the site's policy's to say, for batch jobs as for all others
(`dayfly.policy.rules`): these rules decide what a job gets, those what anybody may have.
"""

from __future__ import annotations

from collections.abc import Sequence

from dayfly.batch.jobshell.request import NONE, Request
from dayfly.errors import Refused
from dayfly.image.reference import LibraryKind, named_by, parse
from dayfly.settings import Queue, Settings
from dayfly.units import format_size


def no_machines(queue: str) -> Refused:
    """Its jobs have none. Hooks that are no Python say these refusals too: `Refused` is what they render."""
    return Refused(f"{queue} has no virtual machines", "leave the options that ask for one out, or submit elsewhere")


def always(queue: str) -> Refused:
    """All of its jobs have one."""
    return Refused(f"every job of {queue} runs in a virtual machine", "leave the image none out, or submit elsewhere")


def parallel_refused(queue: str) -> Refused:
    """Jobs with several tasks would run natively, and the site does not want that."""
    message = f"every job of {queue} runs in a virtual machine, and this one says that it has several tasks"
    return Refused(message, "name an image, for a machine for each task, or submit elsewhere")


def unnamed() -> Refused:
    """It is not known which image is wanted."""
    return Refused("the job names no image, and the site has no default one", "name an image, like debian:12")


def forbidden(image: str, patterns: Sequence[str]) -> Refused:
    """The site names images, and this is none of them."""
    return Refused(f"the image {image} is not allowed here", f"these are: {', '.join(patterns)}")


def too_much(queue: str, most: int) -> Refused:
    """The job's memory is more than `most` bytes."""
    message = f"a machine of {queue} has at most {format_size(most)} of memory, and the job asks for more"
    return Refused(message, "ask for less, or submit elsewhere")


def rules(settings: Settings, queue: str) -> Queue:
    """What holds for a queue: what the site says of it, else what it says of all."""
    own = settings.batch_queues.get(queue, Queue())
    return Queue(
        own.vm or settings.batch_vm,
        own.image or settings.batch_image,
        own.images or settings.batch_images,
        own.memory or settings.batch_memory,
    )


def image(request: Request, rule: Queue, queue: str, *, parallel: bool, native_parallel: bool = True) -> str:
    """The image of the job's machine; empty: the job runs without one.

    A parallel job (several tasks or nodes) gets machines only when it asks for them: its tasks talk to each other over the host's
    network and memory. Raises `Refused` for what the site does not allow.
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
    """The image as it is to be opened. Raises `Refused` when the site names images, and this is none of them.

    Where it names some, a name without a library means the site's: a user's own image of an allowed name is not allowed with it.
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
    """Raises `Refused` for a job with more memory than a machine of its queue may have. In bytes; 0: not said, or not limited."""
    if 0 < rule.memory < memory:
        raise too_much(queue, rule.memory)
