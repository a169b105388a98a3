"""A batch job as its batch system describes it, whichever that is. A value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dayfly.batch.allocation import Allocation


@dataclass(frozen=True)
class BatchJob:
    """One task of a batch job on this node.

    `identity` goes into the usage record. `parallel`: it has several tasks or nodes. `several_programs`: each task another
    one, so that there is no one command to run. `script_folder` is where the batch system keeps the job's script (may be empty).
    """

    system: str
    queue: str
    identity: Mapping[str, str]
    allocation: Allocation
    parallel: bool = False
    several_programs: bool = False
    script_folder: str = ""
