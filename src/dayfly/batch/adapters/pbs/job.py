"""Reads PBS's description of a job: its identity and its allocation.

The variables are those of qsub(1B), "Environment Variables", and of the PBS Professional User's Guide. Users can change them, so
they are used only for the record; CPUs and memory come from the hook's request, which is PBS's own.
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
    """The job, or one of its tasks, from the hook's request and the variables. Raises `Refused`."""
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
    """The job's allocation on this host; `address_space` is its limit in bytes (-1: none), which vmem and pvmem set."""
    cpus = request.cpus_per_task or said.number(variables, b"NCPUS")
    return Allocation(cpus, request.memory_mib * _MIB, own=True, address_space=max(address_space, 0))


def hosts(nodes: bytes) -> int:
    """The number of hosts in a node file: one in each line, repeated for each process. Pure."""
    return len({line.strip() for line in nodes.split(b"\n")} - {b""})


def folders(variables: Mapping[bytes, bytes]) -> tuple[Folder, ...]:
    """The folders that pbs_mom made for the job: for temporary files, and that of a private sandbox."""
    made = [os.fsdecode(variables.get(name, b"")) for name in (b"TMPDIR", b"PBS_JOBDIR")]
    number = os.fsdecode(variables.get(b"PBS_JOBID", b""))
    # Without the job's number in it, it is the user's home folder, or the user's own TMPDIR.
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
