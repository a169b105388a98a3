"""A batch job as its batch system describes it, whichever that is. A value."""

from __future__ import annotations

from collections.abc import Mapping

from dayfly.batch.allocation import Allocation
from dayfly.values import dataclass, field


@dataclass(frozen=True)
class BatchJob:
    """One task of a batch job on this node.

    `identity` goes into the usage record. `parallel`: it has several tasks or nodes. `several_programs`: each task another one,
    so that there is no one command to run. `script_folder` is where the batch system keeps the job's script (may be empty).
    `limits` are soft resource limits by their numbers, which the batch system has left to us to set, and `internal` the variables
    by which it told them: the job does not see those. `defaults` are variables that it sets where the job has none of that name.
    """

    system: str
    queue: str
    identity: Mapping[str, str]
    allocation: Allocation
    parallel: bool = False
    several_programs: bool = False
    script_folder: str = ""
    limits: Mapping[int, int] = field(default_factory=dict)
    internal: frozenset[bytes] = frozenset()
    defaults: Mapping[bytes, bytes] = field(default_factory=dict)
