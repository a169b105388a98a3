"""Runs a job and saves its machine as an image: `dayfly run --save-as`."""

from __future__ import annotations

import signal
from collections.abc import Callable

from dayfly.errors import DayflyError, Refused
from dayfly.image.reference import LibraryKind, Name, parse
from dayfly.image.search import Libraries
from dayfly.imagebuild import capture
from dayfly.job import signals
from dayfly.job.description import Capture, JobDescription
from dayfly.job.start import run
from dayfly.notices import Notify
from dayfly.settings import Settings
from dayfly.values import dataclass, replace


@dataclass(frozen=True)
class Saved:
    """The exit status of the job, and the digest of the image (empty: none was made)."""

    status: int
    digest: str


def parse_target(text: str) -> Name:
    """The name in the user's own library: `NAME:TAG`, or `user/NAME:TAG`. Raises `Refused`."""
    reference = parse(text)
    if reference.name is None or reference.digest:
        raise Refused(f"{text!r} is not a valid name for an image", "write NAME:TAG")
    if reference.library is LibraryKind.SYSTEM:
        raise Refused(f"{text}: a machine can be saved only to your own library", f"write {reference.name}")
    return reference.name


def run_and_save(
    description: JobDescription,
    name: Name,
    settings: Settings,
    *,
    failed_too: bool,
    notify: Notify,
    progress: Callable[[], Callable[[str], None]],
) -> Saved:
    """Run the job, and make an image of its machine if it succeeded.

    The requirements of an image are checked before the job starts. `progress` is called when the image is begun; it returns
    the function that reports each step. Raises `DayflyError`.
    """
    libraries = Libraries(settings)
    with libraries.open(description.image) as parent, capture.prepared(libraries.user, settings) as target:
        result = run(replace(description, capture=Capture(target.archive, failed_too)), settings, notify)
        if not result.captured:
            if result.job_status != 0 and not failed_too:
                hint = "use --save-failed to save it anyway"
                notify(f"no image was saved: the job ended with status {result.status} ({hint})")
            return Saved(result.status, "")
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.HELD)
        if result.captured != parent.digest:
            raise DayflyError(f"no image was saved: {description.image} changed when the job started", "try again")
        digest = capture.save(target, parent, libraries.user, name, progress())
        if warning := libraries.warning(name, LibraryKind.USER):
            notify(warning)
        return Saved(result.status, digest)
