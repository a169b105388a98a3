"""How long a job's machine takes to start, beside the same machine started by a bare script.

    python -m bench.start [--image debian:12] [--runs 10]

The two take turns, so that both see the same weather. Also measured: the time from the start of `dayfly` to its executing
QEMU, with a script in QEMU's place that does nothing but look at the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.bare import Bare, BareRun
from bench.figures import Figure, show, show_host
from dayfly.machine.spec import Boot

IMPORTS = "import dayfly.cli.run, os; os._exit(0)"
"""What is imported before QEMU is spawned, without the interpreter's own end."""

DAYFLY = str(Path(sys.executable).with_name("dayfly"))


def whole_command(image: str, *options: str, env: dict[str, str] | None = None) -> float:
    """Seconds from before the fork to after the wait of `dayfly run IMAGE -- true`."""
    begun = time.monotonic()
    subprocess.run([DAYFLY, "run", image, *options, "--", "true"], check=True, stdin=subprocess.DEVNULL, env=env)
    return time.monotonic() - begun


def phases() -> dict[str, float]:
    """Those of the last job."""
    listed = subprocess.run([DAYFLY, "usage", "list", "--json"], check=True, capture_output=True).stdout
    found: dict[str, float] = json.loads(listed)[-1]["phases"]
    return found


def to_qemu(image: str, folder: Path) -> float:
    """Seconds from the fork of `dayfly` to its executing QEMU (a bash script here, whose own start is in the figure)."""
    clock, stub, settings = folder / "clock", folder / "qemu", folder / "settings.toml"
    stub.write_text(f"#!/bin/bash\necho $EPOCHREALTIME > {clock}\n")
    stub.chmod(0o755)
    named = os.environ.get("DAYFLY_SETTINGS", "")
    own = Path(named).read_text() if named else ""
    settings.write_text(own + f'[machine]\nqemu = "{stub}"\n')
    begun = time.time()
    subprocess.run(
        [DAYFLY, "run", image, "--", "true"],
        check=False,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "DAYFLY_SETTINGS": str(settings)},
    )
    return float(clock.read_text()) - begun


def python(code: str) -> float:
    """Seconds of a Python that does this and ends."""
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.monotonic() - begun


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", default="debian:12")
    parser.add_argument("--runs", type=int, default=10)
    arguments = parser.parse_args()
    show_host()
    boot = Boot(Bare(arguments.image).image.config.boot)
    bare_machine = Bare(arguments.image, boot)
    bare: list[BareRun] = []
    whole: list[float] = []
    times: list[dict[str, float]] = []
    for round_ in range(arguments.runs + 1):
        one, other = bare_machine.run(b"true"), whole_command(arguments.image, "--no-share")
        if round_ > 0:  # the first warms the page cache
            bare.append(one)
            whole.append(other)
            times.append(phases())
    runs = arguments.runs
    print(f"\ncold start of {arguments.image}, boot {boot}, emulated: to the end of the job `true`")
    floor = Figure("bare QEMU, to the job's exit report", tuple(run.exited for run in bare), "s")
    show(
        floor,
        [
            Figure("bare QEMU, until it is gone", tuple(run.gone for run in bare), "s"),
            Figure("dayfly: from the spawn to the exit report", tuple(at["exited"] - at["spawned"] for at in times), "s"),
            Figure("dayfly run IMAGE -- true, the whole command", tuple(whole), "s"),
        ],
    )
    print("\nbefore QEMU is executed")
    with tempfile.TemporaryDirectory() as folder:
        before = [to_qemu(arguments.image, Path(folder)) * 1000 for _ in range(runs)]
    show(
        Figure("python -c pass", tuple(python("pass") * 1000 for _ in range(runs)), "ms"),
        [
            Figure("interpreter start and imports before QEMU", tuple(python(IMPORTS) * 1000 for _ in range(runs)), "ms"),
            Figure("dayfly: exec to QEMU's exec", tuple(before), "ms"),
        ],
    )


if __name__ == "__main__":
    main()
