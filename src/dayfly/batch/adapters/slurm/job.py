"""Reads Slurm's description of a task: its identity and its allocation. Pure.

The variables are those of srun(1) and sbatch(1), "OUTPUT ENVIRONMENT VARIABLES". Users can change them, so they are used for the
record, and never raise the allocation above the cgroup's limits.
"""

from __future__ import annotations

import resource
from collections.abc import Mapping

from dayfly.batch.jobshell import variables as said
from dayfly.batch.jobshell.allocation import Allocation
from dayfly.batch.jobshell.job import BatchJob
from dayfly.batch.jobshell.request import Request
from dayfly.job.description import Folder

_MIB = 1024**2
_LIMIT = b"SLURM_RLIMIT_"
_LIMITS = {
    name: getattr(resource, f"RLIMIT_{name.decode()}")
    for name in (b"CPU", b"FSIZE", b"DATA", b"STACK", b"CORE", b"RSS", b"NPROC", b"NOFILE", b"MEMLOCK", b"AS")
}
_IDENTITY = {
    "job": b"SLURM_JOB_ID",
    "array_job": b"SLURM_ARRAY_JOB_ID",
    "array_task": b"SLURM_ARRAY_TASK_ID",
    "het_job": b"SLURM_HET_JOB_ID",
    "het_component": b"SLURM_HET_JOB_OFFSET",
    "step": b"SLURM_STEP_ID",
    "task": b"SLURM_PROCID",
    "name": b"SLURM_JOB_NAME",
    "partition": b"SLURM_JOB_PARTITION",
    "account": b"SLURM_JOB_ACCOUNT",
    "node": b"SLURMD_NODENAME",
    "cluster": b"SLURM_CLUSTER_NAME",
    "restarts": b"SLURM_RESTART_COUNT",
}


def read(request: Request, variables: Mapping[bytes, bytes]) -> BatchJob:
    """The task."""
    identity = said.identity(variables, _IDENTITY)
    batch_step = b"SLURM_STEP_ID" not in variables
    if batch_step:
        identity["step"] = "batch"
    return BatchJob(
        system="slurm",
        queue=identity.get("partition", ""),
        identity=identity,
        allocation=_allocation(request, variables, batch_step=batch_step),
        account=identity.get("account", "") if batch_step else "",  # in a step it comes from srun's environment
        parallel=said.number(variables, b"SLURM_NTASKS") > 1 or said.number(variables, b"SLURM_JOB_NUM_NODES") > 1,
        several_programs=_several_programs(request),
        folders=_script_folder(request.command[0]) if batch_step else (),
        limits=_limits(variables),
        defaults={b"TMPDIR": b"/tmp"},
        not_executed="slurmstepd: error: execve(): {program}: {error}",
        internal=frozenset(name for name in variables if name.startswith(_LIMIT)),
    )


def _allocation(request: Request, variables: Mapping[bytes, bytes], *, batch_step: bool) -> Allocation:
    on_node = said.number(variables, b"SLURM_CPUS_ON_NODE")
    tasks = 1 if batch_step else max(request.tasks_here, 1)
    cpus = on_node if tasks == 1 else min(on_node, max(request.cpus_per_task, 1))
    memory = request.memory_mib or said.number(variables, b"SLURM_MEM_PER_NODE")
    memory = memory or said.number(variables, b"SLURM_MEM_PER_CPU") * on_node
    return Allocation(cpus, memory * _MIB // tasks, tasks)


def _limits(variables: Mapping[bytes, bytes]) -> dict[int, int]:
    """The limits of the submitting process. slurmstepd sets them only after the plugin has run, and then removes the variables.

    A U before the number means that --propagate requested it.
    """
    found: dict[int, int] = {}
    for name, number in _LIMITS.items():
        value = variables.get(_LIMIT + name, b"").removeprefix(b"U")
        if value.isdigit() and len(value) <= 20:
            found[number] = -1 if int(value) >= 1 << 63 else int(value)
    return found


def _several_programs(request: Request) -> bool:
    """srun --multi-prog passes its configuration instead of a command: lines of a task's number and its program."""
    last = request.command[-1]
    return len(request.command) > 1 and "\n" in last and last.lstrip()[:1].isdigit()


def _script_folder(command: str) -> tuple[Folder, ...]:
    """The folder of a batch script: `SPOOL/job00042/slurm_script`. The job must see it."""
    folder, _, name = command.rpartition("/")
    return (Folder(folder, readonly=True),) if name == "slurm_script" else ()
