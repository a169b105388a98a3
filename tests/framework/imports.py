"""Which modules a command has imported when it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

REPORT = """
import os, sys
from types import ModuleType
from dayfly.cli import entry
def report(status):
    loaded = [name for name, module in sys.modules.items() if type(module) is ModuleType]
    os.write(2, (" ".join(["LOADED", *loaded]) + "\\n").encode())
    exit_(status)
exit_, os._exit = os._exit, report
entry()
"""
"""A stand-in that is empty until it is used (dayfly.lazily) is of another type."""


def imported(words: list[str], environment: Mapping[str, str] = os.environ) -> set[str]:
    """The modules that `dayfly` has loaded at the end of this command, which succeeds."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", REPORT, *words],
        env={name: value for name, value in environment.items() if not name.startswith("PYTHON")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stderr.splitlines() if line.startswith("LOADED "))
    return set(line.split()[1:])
