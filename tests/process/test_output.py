"""What commands print is not lost in silence either."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = [
    ["--help"],
    ["--version"],
    ["run", "--help"],
    ["image", "import", "--help"],
    ["image", "list", "--json"],
    ["completion", "bash"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_full_disk_behind_a_command(words: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dayfly", *words]
    with Path("/dev/full").open("wb") as full:
        environment = {**os.environ, "HOME": str(tmp_path)}
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=environment, timeout=60)
    assert done.returncode == 125
    assert done.stderr == b"dayfly: stdout cannot be written to: No space left on device\n"
