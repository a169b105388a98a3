"""The man pages are what formatters want them to be."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from tools.man import FOLDER


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.1")))
def test_mandoc_has_nothing_to_say(name: str) -> None:
    mandoc = shutil.which("mandoc")
    assert mandoc, "install the package mandoc"
    checked = subprocess.run([mandoc, "-T", "lint", "-W", "warning", FOLDER / name], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
