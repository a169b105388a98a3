"""Folders that the user of a job may not list, by real processes without root's rights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_folders_that_nobody_could_share(tmp_path: Path) -> None:
    """By a process without root's capabilities, as QEMU's is."""
    closed = tmp_path / "closed"
    closed.mkdir()
    text = (
        "import sys\nfrom dayfly.job.description import Folder, check_listable, mounts\n"
        "check_listable(mounts([Folder(sys.argv[1])])[0])"
    )
    command = ["unshare", "--user", "--map-user=1000", sys.executable, "-c", text, str(closed)]
    for mode, told in ((0o755, ""), (0o500, ""), (0o300, "closed cannot be shared: "), (0o600, "closed cannot be shared: ")):
        closed.chmod(mode)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert told in done.stderr
        assert (done.returncode == 0) is (not told), done.stderr
