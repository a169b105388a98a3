"""Reads HTCondor's description of a job: its identity, request and allocation.

The starter writes the job's and the slot's ClassAds into the job's folder, and names them in variables (HTCondor's manual,
"Services for Running Jobs"). The user can change them, and the variables.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from pathlib import Path

from dayfly import files
from dayfly.batch.adapters.htcondor.classad import Value, number, parse, string
from dayfly.batch.jobshell.allocation import Allocation
from dayfly.batch.jobshell.job import BatchJob
from dayfly.batch.jobshell.request import Request
from dayfly.errors import Refused
from dayfly.job.description import Folder
from dayfly.values import replace

_MIB = 1024**2
_LIMIT = 4 * _MIB
_PARALLEL = 11
"""The parallel universe (HTCondor's manual, "Job ClassAd Attributes", JobUniverse)."""
_OF_THE_JOB = {
    "name": "JobBatchName",
    "owner": "Owner",
    "account": "AcctGroup",
    "global_job": "GlobalJobId",
    "restarts": "NumJobStarts",
}
_OF_THE_SLOT = {"queue": "DayflyQueue", "node": "Machine", "slot": "Name"}
_REQUESTS = {"image": "VMImage", "boot": "VMBoot", "network": "VMNetwork", "share": "VMShare"}


def read(request: Request, variables: Mapping[bytes, bytes]) -> BatchJob:
    """The job. Raises `Refused` if HTCondor did not describe it."""
    job = _ad(variables, b"_CONDOR_JOB_AD")
    slot = _ad(variables, b"_CONDOR_MACHINE_AD")
    identity = {"job": f"{string(job, 'ClusterId')}.{string(job, 'ProcId') or '0'}"}
    identity |= {name: text for name, attribute in _OF_THE_JOB.items() if (text := string(job, attribute))}
    identity |= {name: text for name, attribute in _OF_THE_SLOT.items() if (text := string(slot, attribute))}
    return BatchJob(
        system="htcondor",
        queue=identity.get("queue", ""),
        identity=identity,
        allocation=allocation(job, slot, resource.getrlimit(resource.RLIMIT_AS)[0]),
        account=identity.get("account", ""),
        parallel=number(job, "JobUniverse") == _PARALLEL,
        folders=_folders(variables),
        request=asked(request, job),
    )


def asked(request: Request, job: Mapping[str, Value]) -> Request:
    """The hook's request, with the attributes of the job's ClassAd."""
    requests = {name: text for name, attribute in _REQUESTS.items() if (text := string(job, attribute))}
    return replace(request, **requests)  # type: ignore[arg-type]  # all of them are texts


def allocation(job: Mapping[str, Value], slot: Mapping[str, Value], address_space: int) -> Allocation:
    """The slot's resources, or what the job requested if the slot does not say. `address_space` is in bytes, -1: no limit."""
    cpus = number(slot, "Cpus") or number(job, "RequestCpus")
    memory = number(slot, "Memory") or number(job, "RequestMemory")
    return Allocation(max(cpus, 1), memory * _MIB, own=True, address_space=max(address_space, 0))


def _ad(variables: Mapping[bytes, bytes], name: bytes) -> dict[str, Value]:
    path = os.fsdecode(variables.get(name, b""))
    if not path:
        raise Refused(f"HTCondor did not set {name.decode()}", "the job shell is called by the starter, not by users")
    try:
        return parse(files.read(Path(path), _LIMIT).decode(errors="replace"))
    except OSError as error:
        raise Refused(f"the job's ClassAd cannot be read: {path}: {error.strerror}") from error


def _folders(variables: Mapping[bytes, bytes]) -> tuple[Folder, ...]:
    """The folder that the starter made for the job, with its input files, its program and its TMPDIR."""
    path = os.fsdecode(variables.get(b"_CONDOR_SCRATCH_DIR", b""))
    return (Folder(path),) if path.startswith("/") and os.path.isdir(path) else ()  # noqa: PTH112
