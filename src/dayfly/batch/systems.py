"""The batch systems that jobs can be submitted to: the list of adapters."""

from __future__ import annotations

from dayfly.batch.adapters.gridengine import submit as gridengine
from dayfly.batch.adapters.htcondor import submit as htcondor
from dayfly.batch.adapters.pbs import submit as pbs
from dayfly.batch.adapters.slurm import submit as slurm
from dayfly.batch.adapters.torque import submit as torque
from dayfly.batch.submission.system import System, Systems

SYSTEMS: Systems = {
    system.name: system
    for system in (
        System("slurm", slurm),
        System("gridengine", gridengine),
        System("pbs", pbs),
        System("htcondor", htcondor),
        System("torque", torque),
    )
}
