"""A batch job as its batch system describes it, whichever that is. A value."""

from __future__ import annotations

from collections.abc import Mapping

from dayfly.batch.jobshell.allocation import Allocation
from dayfly.batch.jobshell.request import Request
from dayfly.job.description import Folder
from dayfly.values import dataclass, field


@dataclass(frozen=True)
class BatchJob:
    """One task of a batch job on this node.

    `identity` goes into the usage record. `account` is the job's account, where the batch system says it and not a variable of
    the user's. `parallel`: it has several tasks or nodes. `several_programs`: each task another one, so that there is no one
    command to run. `folders` are those that the batch system made for the job, with its script for one;
    `command` is what it runs, where that is not what the hook said.
    `limits` are soft resource limits by their numbers, which the batch system has left to us to set, and `internal` the variables
    by which it told them: the job does not see those. `defaults` are variables that it sets where the job has none of that name.
    `restarts_known` is how far the batch system counts how often it has started the job again.
    `request` is what the job asks for, where the batch system's description says that and the hook's words do not.
    `script_by_name`: its shell may get the name of the job's script, which is in a folder that the job cannot list.
    `not_executed` is what the batch system itself prints of a program that cannot be executed, as a format of `program` and
    `error`, where it then ends the task with the error's number (errno(3)).
    `outlives_parent`: the daemon that started the job may be started anew while the job runs.
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
