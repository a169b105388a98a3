"""From a description to a running job: the hot path. Nothing heavy is imported before QEMU runs.

`run` is all that the command line and the batch systems call.
"""

from __future__ import annotations

import signal
import time

from dayfly import process
from dayfly.image.search import Libraries
from dayfly.job.description import JobDescription
from dayfly.job.prepare import prepare, spawn
from dayfly.machine import accelerator
from dayfly.settings import Settings

HELD_SIGNALS = frozenset(
    (
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGTSTP,
        signal.SIGWINCH,
    )
)
"""From the spawn on, these wait until there is somebody who knows what they mean for the machine."""


def run(description: JobDescription, settings: Settings) -> int:
    """Run a job in a fresh machine; returns what to exit with.

    Raises `DayflyError` for what is wrong before there is a machine; what happens later is told on stderr and in the record.
    """
    begun = time.monotonic()
    with Libraries(settings).open(description.image) as image:
        if image.notice:
            process.warn(image.notice)
        prepared = prepare(description, image, begun)
        process.raise_limits()
        verdict = accelerator.Verdict(settings.cache_folder)
        accelerated, trial = accelerator.choose(settings.machine_accelerator, verdict)
        signal.pthread_sigmask(signal.SIG_BLOCK, HELD_SIGNALS)
        launched = spawn(prepared, settings, accelerated)

        from dayfly.job.supervise import supervise  # noqa: PLC0415 (heavy: imported while the machine boots)

        return supervise(prepared, settings, launched, verdict if trial else None)
