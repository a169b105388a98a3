"""A job whose machine becomes an image: `dayfly run --save-as`."""

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
    """What the job is to exit with, and the digest of the image (empty: none was made)."""

    status: int
    digest: str


def parse_target(text: str) -> Name:
    """The name in one's own library: `NAME:TAG`, or `user/NAME:TAG`. Raises `Refused`."""
    reference = parse(text)
    if reference.name is None or reference.digest:
        raise Refused(f"{text!r} is no name that an image can be given", "write NAME:TAG")
    if reference.library is LibraryKind.SYSTEM:
        raise Refused(f"{text}: a machine is saved to your own library only", f"write {reference.name}")
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
    """Run the job, and make an image of its machine when it has ended well.

    What an image needs is looked for before the job starts. `progress` is called when the image is begun, for what is told of
    each step. Raises `DayflyError`.
    """
    libraries = Libraries(settings)
    with libraries.open(description.image) as parent, capture.bench(libraries.user, settings) as target:
        result = run(replace(description, capture=Capture(target.archive, failed_too)), settings, notify)
        if not result.captured:
            if result.job_status != 0 and not failed_too:
                hint = "--save-failed saves it all the same"
                notify(f"no image was saved: the job ended with status {result.status} ({hint})")
            return Saved(result.status, "")
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.HELD)
        if result.captured != parent.digest:
            raise DayflyError(f"no image was saved: {description.image} became another image when the job started", "try again")
        digest = capture.save(target, parent, libraries.user, name, progress())
        if warning := libraries.warning(name, LibraryKind.USER):
            notify(warning)
        return Saved(result.status, digest)
