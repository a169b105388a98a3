"""`dayfly job-shell`: executed by a batch system's hook instead of a job's command. On the hot path of every job."""

from __future__ import annotations

import importlib
import os
import resource
import signal
import sys
from collections.abc import Sequence

from dayfly.batch.jobshell.shell import serve as serve_job
from dayfly.cli.notices import warn
from dayfly.errors import Refused

SYSTEMS = ("slurm", "gridengine", "pbs", "htcondor", "torque")
"""The batch systems whose hooks call us: `dayfly.batch.adapters.SYSTEM.job` reads their description of a job, `calls` makes calls
to them.
"""


def serve(words: Sequence[str]) -> int:
    """Run the job that `SYSTEM WORD=VALUE… -- COMMAND` describes. If it died by a signal, this process ends by the same
    signal.
    """
    if not words or words[0] not in SYSTEMS:
        raise Refused("unknown batch system", f"one of: {', '.join(SYSTEMS)}")
    package = f"dayfly.batch.adapters.{words[0]}"
    status = serve_job(
        words[1:],
        importlib.import_module(f"{package}.job").read,
        lambda job, variables: importlib.import_module(f"{package}.calls").Calls(job, variables),
        warn,
    )
    return status if status >= 0 else _die(-status)


def _die(number: int) -> int:
    """End by a signal, so that the batch system sees the same as for a native job."""
    sys.stdout.flush()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    return 128 + number  # a signal that does not end a process
