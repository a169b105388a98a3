"""Reads Grid Engine's description of a job: its identity and its allocation.

The variables are those of submit(1), "ENVIRONMENTAL VARIABLES", and queue_conf(5), "starter_method"; the rest is in the file
`config` of the job's folder, which sge_execd writes and users cannot. Users can change the variables, so these are used for the
record, and never raise the allocation above the limits of the process.
"""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Mapping

from dayfly import files
from dayfly.batch.jobshell.allocation import Allocation
from dayfly.batch.jobshell.host_file import folder_of
from dayfly.batch.jobshell.job import BatchJob
from dayfly.batch.jobshell.request import Request
from dayfly.batch.jobshell.variables import number, text
from dayfly.job.description import Folder

_CONFIG_LIMIT = 1024**2
_UNITS = {"": 1, "k": 1000, "K": 1024, "m": 1000**2, "M": 1024**2, "g": 1000**3, "G": 1024**3, "t": 1000**4, "T": 1024**4}
_UNSAID = (b"", b"undefined", b"UNDEFINED", b"none", b"NONE")
_LOGIN = ("bash", "dash", "ksh", "sh", "zsh")
"""Shells that take `-l` before a script."""
_IDENTITY = {
    "job": b"JOB_ID",
    "name": b"JOB_NAME",
    "queue": b"QUEUE",
    "account": b"SGE_ACCOUNT",
    "node": b"HOSTNAME",
    "cell": b"SGE_CELL",
    "cluster": b"SGE_CLUSTER_NAME",
    "restarts": b"RESTARTED",
    "parallel_environment": b"PE",
}


def read(request: Request, variables: Mapping[bytes, bytes]) -> BatchJob:
    """The job, from the starter's environment."""
    identity = {name: text(variables, variable) for name, variable in _IDENTITY.items() if _said(variables, variable)}
    if _said(variables, b"SGE_TASK_ID"):
        identity |= {"array_job": identity.get("job", ""), "array_task": text(variables, b"SGE_TASK_ID")}
    config = _config(os.fsdecode(variables.get(b"SGE_JOB_SPOOL_DIR", b"")))
    script = request.command[0]
    return BatchJob(
        system="gridengine",
        queue=identity.get("queue", ""),
        identity=identity,
        allocation=allocation(config, variables, resource.getrlimit(resource.RLIMIT_AS)[0]),
        parallel=number(variables, b"NHOSTS") > 1,
        folders=(*_folders(script, variables), *folder_of(variables, b"PE_HOSTFILE")),
        restarts_known=1,  # RESTARTED is 0 or 1
        command=command(request.command, config, variables, has_interpreter=_has_interpreter(script)),
    )


def parse_config(text: str) -> dict[str, str]:
    """Read the file `config`: `NAME=VALUE` lines."""
    return dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)


def allocation(config: Mapping[str, str], variables: Mapping[bytes, bytes], address_space: int) -> Allocation:
    """The job's allocation on this host; `address_space` is its limit in bytes (-1: none), which h_vmem sets."""
    slots = config.get("host_slots", "") or config.get("pe_slots", "")
    cpus = int(slots) if slots.isdecimal() and len(slots) < 6 else max(number(variables, b"NSLOTS"), 1)
    memory = parse_memory(text(variables, b"DAYFLY_MEMORY")) * cpus
    return Allocation(cpus, memory, own=True, address_space=max(address_space, 0))


def parse_memory(specifier: str) -> int:
    """Bytes of a `memory_specifier` (sge_types(1)); 0 if it is malformed."""
    figure = specifier.rstrip("kKmMgGtT")
    unit = specifier[len(figure) :]
    try:
        size = float(figure) if len(figure) < 24 else 0.0
    except ValueError:
        return 0
    return int(size * _UNITS[unit]) if unit in _UNITS and 0 <= size < 1 << 60 else 0


def command(
    words: tuple[str, ...], config: Mapping[str, str], variables: Mapping[bytes, bytes], *, has_interpreter: bool
) -> tuple[str, ...]:
    """The job's command: as it is (`qsub -b y`), a script with its own interpreter, or a script run by the queue's shell."""
    mode = text(variables, b"SGE_STARTER_SHELL_START_MODE")
    if config.get("handle_as_binary") == "1" or (mode == "unix_behavior" and has_interpreter):
        return words
    shell = os.fsdecode(variables.get(b"SGE_STARTER_SHELL_PATH", b"")) or "/bin/sh"
    name = shell.rpartition("/")[2]
    login = ("-l",) if variables.get(b"SGE_STARTER_USE_LOGIN_SHELL") == b"true" and name in _LOGIN else ()
    return (shell, *login, *words)


def _has_interpreter(path: str) -> bool:
    """Whether the kernel can execute a file: it begins with #! or is a binary."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 (hot path of every job)
            return file.read(2) == b"#!"
    except OSError:
        return False


def _folders(script: str, variables: Mapping[bytes, bytes]) -> tuple[Folder, ...]:
    """The folder of the job's script, and the temporary folder that Grid Engine made on this host."""
    folder, _, name = script.rpartition("/")
    scripts = [Folder(folder, readonly=True)] if name.isdecimal() and folder.endswith("/job_scripts") else []
    temporary = os.fsdecode(variables.get(b"TMPDIR", b""))
    made = temporary.startswith("/") and os.path.isdir(temporary) and temporary.rpartition("/")[2].count(".") >= 2  # noqa: PTH112
    return (*scripts, *([Folder(temporary)] if made else []))


def _config(folder: str) -> dict[str, str]:
    """The file that the execution daemon wrote for the job; empty if it cannot be read."""
    path = f"{folder}/config"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return {}
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid == os.getuid() != 0:
            return {}
        return parse_config(files.read_all(descriptor, _CONFIG_LIMIT).decode(errors="replace"))
    finally:
        os.close(descriptor)


def _said(variables: Mapping[bytes, bytes], name: bytes) -> bool:
    return variables.get(name, b"") not in _UNSAID
