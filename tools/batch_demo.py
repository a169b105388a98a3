"""Start a batch system with two nodes on this host, and a shell of an ordinary user to submit jobs from.

Usage: python -m tools.batch_demo slurm|gridengine, as root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.framework.gridengine import Grid
from tests.framework.images import TEST_LIBRARY, build
from tests.framework.slurm import Cluster


@dataclass(frozen=True)
class Demo:
    """How to start a batch system in a folder, a job script, and commands to try."""

    title: str
    start: Callable[[Path], Cluster | Grid]
    script: str
    commands: tuple[str, ...]


DEMOS = {
    "slurm": Demo(
        "Slurm",
        lambda folder: Cluster(folder, TEST_LIBRARY, accelerator="auto"),
        '#!/bin/sh\n#SBATCH --vm-image=debian:12\necho "$(uname -n) runs job $SLURM_JOB_ID for $(id -un)"\n',
        (
            "srun --vm-image=debian:12 uname -a",
            "srun --vm-image=debian:12 --pty bash",
            "sbatch job.sh; squeue",
            "srun --partition=always uname -n",
        ),
    ),
    "gridengine": Demo(
        "Grid Engine",
        lambda folder: Grid(folder, TEST_LIBRARY, accelerator="auto"),
        '#!/bin/sh\n#$ -l vm_image=debian:12 -cwd\necho "$(uname -n) runs job $JOB_ID for $(id -un)"\n',
        (
            "qsub job.sh; qstat",
            "qsub -sync y -cwd -b y -l vm_image=debian:12 uname -a; cat uname.o*",
            "qsub -sync y -cwd -b y -q always uname -n; qacct -j uname | grep cpu",
            "qsub -l vm_image=debian:99 job.sh",
        ),
    ),
}


def main() -> int:
    """Start the batch system and a shell, and end it with the shell."""
    demo = DEMOS[sys.argv[1]]
    if os.getuid() != 0:
        print(f"dayfly: the daemons of {demo.title} need root here (run this with sudo)", file=sys.stderr)
        return 1
    build("debian:12", TEST_LIBRARY)
    folder = Path(tempfile.mkdtemp(prefix=f"dayfly-{sys.argv[1]}-", dir="/var/tmp"))
    try:
        with demo.start(folder) as system:
            (system.work / "job.sh").write_text(demo.script)
            nodes = " and ".join(system.nodes)
            print(f"{demo.title} runs with the nodes {nodes}. This is a shell of the user {system.user}.", end=" ")
            print("Exit from it to stop everything. Try:\n", *(f"\n  {command}" for command in demo.commands), "\n", flush=True)
            environment = {**system.environment, "PS1": f"{sys.argv[1]}-demo$ "}
            shell = ["bash", "--norc"] if sys.stdin.isatty() else ["sh"]
            subprocess.run([*system.as_user(), *shell], cwd=system.work, env=environment, check=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
