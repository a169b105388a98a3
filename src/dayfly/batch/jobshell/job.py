"""A batch job as described by any batch system. A value."""

from __future__ import annotations

from collections.abc import Mapping

from dayfly.batch.jobshell.allocation import Allocation
from dayfly.batch.jobshell.request import Request
from dayfly.job.description import Folder
from dayfly.values import dataclass, field


@dataclass(frozen=True)
class BatchJob:
    """One task of a batch job on this node.

    `identity` goes into the usage record. `account` is the job's account, if the batch system says it and not a user's
    variable. `parallel`: it has several tasks or nodes. `several_programs`: the tasks run different programs, so there is no
    single command. `folders` are those that the batch system made for the job, such as the script's; `command` is its
    command, if it differs from the hook's. `limits` are soft resource limits by number that the batch system leaves to us to
    set, and `internal` the variables with these limits, which the job does not see. `defaults` are variables that are set
    unless the job has them. `restarts_known` is the highest number of restarts that the batch system counts. `request` is the
    job's request, if it is in the batch system's description and not in the hook's words. `script_by_name`: its shell may get
    the name of the job's script, which is in a folder that the job cannot list. `not_executed` is the batch system's own
    message about a program that cannot be executed, as a format of `program` and `error`, if it then ends the task with the
    errno(3). `outlives_parent`: the daemon that started the job may be restarted while the job runs.
    """

    system: str
    queue: str
    identity: Mapping[str, str]
    allocation: Allocation
    account: str = ""
    parallel: bool = False
    several_programs: bool = False
    folders: tuple[Folder, ...] = ()
    command: tuple[str, ...] = ()
    restarts_known: int = 1 << 30
    limits: Mapping[int, int] = field(default_factory=dict)
    internal: frozenset[bytes] = frozenset()
    defaults: Mapping[bytes, bytes] = field(default_factory=dict)
    request: Request | None = None
    script_by_name: bool = False
    not_executed: str = ""
    outlives_parent: bool = False
