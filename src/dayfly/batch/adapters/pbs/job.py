"""What PBS says of a job: who it is, what it was given.

The variables are those of qsub(1B), "Environment Variables", and of the PBS Professional User's Guide. A user can change them, so
they say what a record shows; CPUs and memory come as the hook's words, which are PBS's own.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping

from dayfly.batch.jobshell import variables as said
from dayfly.batch.jobshell.allocation import Allocation
from dayfly.batch.jobshell.host_file import folder_of
from dayfly.batch.jobshell.job import BatchJob
from dayfly.batch.jobshell.origin import submitted_from
from dayfly.batch.jobshell.request import Request, check_whole
from dayfly.job.description import Folder

_MIB = 1024**2
_IDENTITY = {
    "job": b"PBS_JOBID",
    "name": b"PBS_JOBNAME",
    "queue": b"PBS_QUEUE",
    "array_task": b"PBS_ARRAY_INDEX",
    "array_job": b"PBS_ARRAY_ID",
    "node_number": b"PBS_NODENUM",
    "task": b"PBS_TASKNUM",
}
_NODES_LIMIT = 1024**2


def read(request: Request, variables: Mapping[bytes, bytes]) -> BatchJob:
    """The job, or one of its tasks, as the hook's words and its variables say it. Raises `Refused`."""
    check_whole(request.share)
    identity = said.identity(variables, _IDENTITY)
    return BatchJob(
        system="pbs",
        queue=identity.get("queue", ""),
        identity=identity | {"node": os.uname().nodename, "restarts": str(request.restarts)},
        allocation=allocation(request, variables, resource.getrlimit(resource.RLIMIT_AS)[0]),
        parallel=hosts(_nodes(os.fsdecode(variables.get(b"PBS_NODEFILE", b"")))) > 1,
        folders=(*folders(variables), *submitted_from(variables), *folder_of(variables, b"PBS_NODEFILE")),
        script_by_name=variables.get(b"PBS_ENVIRONMENT") == b"PBS_BATCH",
        outlives_parent=True,
    )


def allocation(request: Request, variables: Mapping[bytes, bytes], address_space: int) -> Allocation:
    """What the job has on this host; `address_space` is its limit in bytes (-1: none), which vmem and pvmem set."""
    cpus = request.cpus_per_task or said.number(variables, b"NCPUS")
    return Allocation(cpus, request.memory_mib * _MIB, own=True, address_space=max(address_space, 0))


def hosts(nodes: bytes) -> int:
    """How many hosts a node file names: one a line, as often as processes are to run there. Pure."""
    return len({line.strip() for line in nodes.split(b"\n")} - {b""})


def folders(variables: Mapping[bytes, bytes]) -> tuple[Folder, ...]:
    """What pbs_mom made for the job: its folder for temporary files, and the one of a job with a private sandbox."""
    made = [os.fsdecode(variables.get(name, b"")) for name in (b"TMPDIR", b"PBS_JOBDIR")]
    number = os.fsdecode(variables.get(b"PBS_JOBID", b""))
    # Without the job's number it is the user's home folder, or what the user says TMPDIR is.
    return tuple(
        Folder(path)
        for path in dict.fromkeys(made)
        if number and path.startswith("/") and number in path.rpartition("/")[2] and os.path.isdir(path)  # noqa: PTH112
    )


def _nodes(path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        return os.read(descriptor, _NODES_LIMIT)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
