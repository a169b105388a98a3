"""Dayfly in a folder, with a Python to run it: for a machine whose image has neither."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import dayfly

_LEFT_OUT = shutil.ignore_patterns("test", "tests", "idlelib", "lib2to3", "ensurepip", "tkinter", "turtledemo", "__pycache__")
_LIBRARY = re.compile(r"=> (/\S+)")


def dayfly_in(folder: Path) -> Path:
    """Put this host's Python, its libraries and Dayfly there; the program that runs them, which needs no more than `sh`."""
    interpreter = Path(os.path.realpath(sys.executable))
    standard = Path(sysconfig.get_path("stdlib"))
    place = folder / "lib" / standard.name
    shutil.copytree(standard, place, ignore=_LEFT_OUT)
    shutil.copytree(Path(dayfly.__file__).parent, place / "dayfly", ignore=_LEFT_OUT)
    (folder / "bin").mkdir()
    shutil.copy(interpreter, folder / "bin/python")
    needed = subprocess.run(["ldd", interpreter], check=True, capture_output=True, text=True).stdout
    for library in _LIBRARY.findall(needed):
        shutil.copy(library, folder / "lib")
    program = folder / "dayfly"
    program.write_text(
        f'#!/bin/sh\nexport PYTHONHOME={folder} LD_LIBRARY_PATH={folder}/lib\nexec {folder}/bin/python -m dayfly "$@"\n'
    )
    program.chmod(0o755)
    return program
