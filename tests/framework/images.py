"""The images of the tests, in a library that all of them share.  python -m tests.framework.images builds all that are missing."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dayfly import files
from dayfly.imagebuild import rpm
from dayfly.imagebuild.recipe import find

TEST_LIBRARY = Path(__file__).parent.parent.parent / "build/test-library"

PLAIN = "debian:12"
SYSTEM = "debian:12-system"
OWN_SYSTEM = str(Path(__file__).parent / "debian-12-own-system.toml")
SSH = str(Path(__file__).parent / "debian-12-ssh.toml")
RPM_BUILDER = str(rpm.BUILDER)


def build(recipe: str, library: Path = TEST_LIBRARY) -> str:
    """Build a recipe into the tests' library, once for all workers and later runs, until it changes: the image's name."""
    wanted = find(recipe)
    library.mkdir(parents=True, exist_ok=True)
    settings = library / "settings.toml"
    said = f'[library]\nuser = "{library}"\n'
    if not settings.exists() or settings.read_text() != said:  # a library may have been copied from another checkout
        files.write(settings, said.encode())
    environment = {**os.environ, "DAYFLY_SETTINGS": str(settings)}
    command = [sys.executable, "-m", "dayfly", "image"]
    with (library / f"{wanted.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shown = subprocess.run(
            [*command, "show", f"user/{wanted.name}", "--json"], env=environment, capture_output=True, check=False
        )
        if shown.returncode != 0 or json.loads(shown.stdout)["config"]["recipe"] != wanted.digest:
            subprocess.run([*command, "build", recipe], env=environment, check=True)
    return str(wanted.name)


if __name__ == "__main__":
    with ThreadPoolExecutor(2) as builders:  # a build computes on one core most of the time
        for name in builders.map(build, (PLAIN, SYSTEM, OWN_SYSTEM, SSH, RPM_BUILDER)):
            sys.stdout.write(f"{name}\n")
