"""`dayfly run --save-as`: a job whose machine becomes an image."""

from __future__ import annotations

import signal

from dayfly import process
from dayfly.cli.progress import Progress
from dayfly.errors import DayflyError, Refused
from dayfly.image.reference import LibraryKind, Name, parse
from dayfly.image.search import Libraries
from dayfly.imagebuild import capture
from dayfly.job import signals
from dayfly.job.description import Capture, JobDescription
from dayfly.job.start import run
from dayfly.settings import Settings
from dayfly.values import replace


def parse_target(text: str) -> Name:
    """The name in one's own library: `NAME:TAG`, or `user/NAME:TAG`. Raises `Refused`."""
    reference = parse(text)
    if reference.name is None or reference.digest:
        raise Refused(f"{text!r} is no name that an image can be given", "write NAME:TAG")
    if reference.library is LibraryKind.SYSTEM:
        raise Refused(f"{text}: a machine is saved to your own library only", f"write {reference.name}")
    return reference.name


def run_and_save(description: JobDescription, name: Name, settings: Settings, *, failed_too: bool) -> int:
    """Run the job, and make an image of its machine when it has ended well: what to exit with.

    What an image needs is looked for before the job starts. Raises `DayflyError`.
    """
    libraries = Libraries(settings)
    with libraries.open(description.image) as parent, capture.bench(libraries.user, settings) as bench:
        wanted = Capture(bench.archive, failed_too)
        status = run(replace(description, capture=wanted), settings)
        if wanted.failed:
            hint = "--save-failed saves it all the same"
            process.warn(f"no image was saved: the job ended with status {status} ({hint})")
        if not wanted.image:
            return status
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.HELD)
        if wanted.image != parent.digest:
            raise DayflyError(f"no image was saved: {description.image} became another image when the job started", "try again")
        progress = Progress()
        capture.save(bench, parent, libraries.user, name, progress)
        progress.ready(name)
        if warning := libraries.warning(name, LibraryKind.USER):
            process.warn(warning)
        return status
