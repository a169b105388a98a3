"""Reads Torque's description of a job: its identity and its allocation.

The variables are those of qsub(1B) and pbs_mom(8B). Users can change them, so they are used for the record, and never raise the
allocation above the limits of the process; memory comes only from these limits, which pbs_mom sets from mem, pmem, vmem and
pvmem.
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

_IDENTITY = {
    "job": b"PBS_JOBID",
    "name": b"PBS_JOBNAME",
    "queue": b"PBS_QUEUE",
    "array_task": b"PBS_ARRAYID",
    "node_number": b"PBS_NODENUM",
    "task": b"PBS_TASKNUM",
    "server": b"PBS_SERVER",
}
_NO_LIMIT = -1
_MEMORY_LIMITS = (resource.RLIMIT_DATA, resource.RLIMIT_RSS)


def read(request: Request, variables: Mapping[bytes, bytes]) -> BatchJob:
    """The job, from the starter's environment. Raises `Refused`."""
    check_whole(request.share)
    identity = said.identity(variables, _IDENTITY)
    limits = [resource.getrlimit(number)[0] for number in _MEMORY_LIMITS]
    return BatchJob(
        system="torque",
        queue=identity.get("queue", ""),
        identity=identity | {"node": os.uname().nodename},
        allocation=allocation(variables, limits, resource.getrlimit(resource.RLIMIT_AS)[0]),
        parallel=said.number(variables, b"PBS_NUM_NODES") > 1,
        folders=(
            *_folders(variables, identity.get("job", "")),
            *submitted_from(variables),
            *folder_of(variables, b"PBS_NODEFILE"),
        ),
        script_by_name=variables.get(b"PBS_ENVIRONMENT") == b"PBS_BATCH",
        outlives_parent=True,
    )


def allocation(variables: Mapping[bytes, bytes], limits: list[int], address_space: int) -> Allocation:
    """The job's allocation on this host. `limits` are those of its memory, `address_space` is that of its mappings, in bytes; -1:
    none.
    """
    memory = min((limit for limit in limits if limit != _NO_LIMIT), default=0)
    return Allocation(said.number(variables, b"PBS_NUM_PPN"), memory, own=True, address_space=max(address_space, 0))


def _folders(variables: Mapping[bytes, bytes], job: str) -> tuple[Folder, ...]:
    """The temporary folder that pbs_mom made for the job ($tmpdir in its configuration)."""
    path = os.fsdecode(variables.get(b"TMPDIR", b""))
    made = bool(job) and path.startswith("/") and path.rpartition("/")[2] == job and os.path.isdir(path)  # noqa: PTH112
    return (Folder(path),) if made else ()
