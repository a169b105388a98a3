"""A Slurm with two nodes on this host, and a shell of an ordinary user to submit jobs from.

Usage: python -m tools.slurm_demo, as root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.conftest import TEST_LIBRARY, build
from tests.framework.slurm import Cluster

EXAMPLE = '#!/bin/sh\n#SBATCH --vm-image=debian:12\necho "$(uname -n) runs job $SLURM_JOB_ID for $(id -un)"\n'
WELCOME = """\
A Slurm with the nodes {nodes} runs, and this is a shell of the user {user}. Leave it to end everything. Try:

  srun --vm-image=debian:12 uname -a
  srun --vm-image=debian:12 --pty bash
  sbatch --vm-image=debian:12 job.sh; squeue
  srun --partition=always uname -n
"""


def main() -> int:
    """Start it, and a shell; end it with the shell."""
    if os.getuid() != 0:
        print("dayfly: Slurm's daemons need root here (run it by sudo)", file=sys.stderr)
        return 1
    build("debian:12", TEST_LIBRARY)
    folder = Path(tempfile.mkdtemp(prefix="dayfly-slurm-", dir="/var/tmp"))
    try:
        with Cluster(folder, TEST_LIBRARY, accelerator="auto") as cluster:
            (cluster.work / "job.sh").write_text(EXAMPLE)
            print(WELCOME.format(nodes=" and ".join(cluster.nodes), user=cluster.user), flush=True)
            environment = {**cluster.environment, "PS1": "slurm-demo$ "}
            shell = ["bash", "--norc"] if sys.stdin.isatty() else ["sh"]
            subprocess.run([*cluster.become(), *shell], cwd=cluster.work, env=environment, check=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
