"""`dayfly job-shell`: what a batch system's hook executes in the place of a job's command. On the way to every job's start."""

from __future__ import annotations

import importlib
import os
import resource
import signal
import sys
from collections.abc import Sequence

from dayfly import process
from dayfly.batch.jobshell.shell import serve as serve_job
from dayfly.errors import Refused

SYSTEMS = ("slurm", "gridengine", "pbs", "htcondor", "torque")
"""Those whose hooks call us: `dayfly.batch.adapters.SYSTEM.job` reads what each says of a job, `calls` asks it for something."""


def serve(words: Sequence[str]) -> int:
    """Run the job that `SYSTEM WORD=VALUE… -- COMMAND` describes. One that died by a signal takes us with it by the same one."""
    if not words or words[0] not in SYSTEMS:
        raise Refused("the job shell serves no such batch system", f"these: {', '.join(SYSTEMS)}")
    package = f"dayfly.batch.adapters.{words[0]}"
    status = serve_job(
        words[1:],
        importlib.import_module(f"{package}.job").read,
        lambda job, variables: importlib.import_module(f"{package}.calls").Calls(job, variables),
        process.warn,
    )
    return status if status >= 0 else _die(-status)


def _die(number: int) -> int:
    """End by a signal, so that the batch system sees of the job what it would have seen of it on the node."""
    sys.stdout.flush()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    return 128 + number  # one that does not end a process
