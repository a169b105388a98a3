"""The time to start a job's machine, compared with the same machine started by a bare script.

    python -m bench.start [--image debian:12] [--system debian:12-system] [--runs 10]
        [--only cold,warm,cpu,many,memory,system,imports,instructions]

Floor and figure are measured in turn, so that other load affects both equally. The jobs `echo` and `true` run in machines of the
shape in the settings. `instructions` is measured only when it is named, and needs valgrind.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import dayfly
from bench.bare import Bare, BareRun
from bench.clones import BareClones, Clone
from bench.figures import Figure, show, show_host
from dayfly.errors import NotFound
from dayfly.guest.boot import BootMode
from dayfly.image.search import Libraries
from dayfly.settings import load

IMPORTS = "import dayfly.cli.run, dayfly.job.start, os; os._exit(0)"
"""The imports before QEMU is spawned, without the interpreter's own cleanup at exit."""

DAYFLY = str(Path(sys.executable).with_name("dayfly"))
AT_ONCE = 16
CPUCLOCK_SCHED = 2
"""The kind of clock that counts the time on a CPU (Linux, include/linux/posix-timers.h)."""


def whole_command(image: str, *options: str, env: dict[str, str] | None = None) -> float:
    """Seconds from before the fork to after the wait of `dayfly run IMAGE -- true`."""
    begun = time.monotonic()
    subprocess.run([DAYFLY, "run", image, *options, "--", "true"], check=True, stdin=subprocess.DEVNULL, env=env)
    return time.monotonic() - begun


def first_byte(image: str, *options: str) -> float:
    """Seconds from before the fork of `dayfly run IMAGE -- echo` to the first byte that it writes."""
    begun = time.monotonic()
    command = [DAYFLY, "run", image, *options, "--", "echo"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as job:
        assert job.stdout is not None
        assert job.stdout.read(1) == b"\n"
        return time.monotonic() - begun


def held(image: str, count: int) -> tuple[list[subprocess.Popen[bytes]], float]:
    """`count` times `dayfly run` at once, whose jobs have written a byte and wait, and the seconds until the last had."""
    begun = time.monotonic()
    command = [DAYFLY, "run", image, "--no-share", "--", "sh", "-c", "echo; read line"]
    jobs = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(count)]
    for job in jobs:
        assert job.stdout is not None
        assert job.stdout.read(1) == b"\n"
    return jobs, time.monotonic() - begun


def many(image: str) -> float:
    """Seconds until the last of many jobs at once has written its first byte."""
    jobs, seconds = held(image, AT_ONCE)
    for job in jobs:
        job.communicate()
    return seconds


def phases() -> dict[str, float]:
    """The phases of the last job, from its usage record."""
    listed = subprocess.run([DAYFLY, "usage", "list", "--json"], check=True, capture_output=True).stdout
    found: dict[str, float] = json.loads(listed)[-1]["phases"]
    return found


def proportional(pid: int) -> float:
    """The proportional set size of a process, in MB (proc(5), smaps_rollup)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("Pss:"))


def to_qemu(image: str, folder: Path) -> float:
    """Seconds from the fork of `dayfly` until it executes QEMU (a bash script here, whose own start is included)."""
    clock, stub, settings = folder / "clock", folder / "qemu", folder / "settings.toml"
    stub.write_text(f"#!/bin/bash\necho $EPOCHREALTIME > {clock}\n")
    stub.chmod(0o755)
    named = os.environ.get("DAYFLY_SETTINGS", "")
    own = Path(named).read_text() if named else ""
    settings.write_text(own + f'[machine]\nqemu = "{stub}"\n')
    begun = time.time()
    subprocess.run(
        [DAYFLY, "run", image, "--cold", "--", "true"],
        check=False,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "DAYFLY_SETTINGS": str(settings)},
    )
    return float(clock.read_text()) - begun


def python(code: str) -> float:
    """Seconds of a Python process that runs this code and ends."""
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.monotonic() - begun


def own_cpu(argv: Sequence[str]) -> float:
    """CPU milliseconds of a process alone, without its children: all its threads, from its fork to its end.

    wait4(2) adds the children that it waited for, QEMU among them. Its CPU clock does not, and can still be read when the process
    has ended and nobody has waited for it. The clock's number is made from the process's as by clock_getcpuclockid(3).
    """
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    taken = time.clock_gettime(~process.pid << 3 | CPUCLOCK_SCHED)
    if process.wait() != 0:
        raise SystemExit(f"{' '.join(argv)} exited with {process.returncode}")
    return taken * 1000


def instructions(argv: Sequence[str]) -> float:
    """Millions of instructions in user mode of a process alone, counted by valgrind. Other load does not change them."""
    tool = ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")
    process = subprocess.Popen(
        [*tool, *argv], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    told = process.communicate()[1]
    found = re.search(rf"=={process.pid}== I\s+refs:\s+([\d,]+)", told)
    if process.returncode != 0 or found is None:
        raise SystemExit(f"{' '.join(argv)} exited with {process.returncode}: {told}")
    return int(found[1].replace(",", "")) / 1e6


def start_commands(dayfly: Sequence[str], image: str) -> dict[str, list[str]]:
    """The commands whose own process is measured."""
    return {
        "dayfly run IMAGE -- true, warm": [*dayfly, "run", image, "--no-share", "--", "true"],
        "dayfly --version": [*dayfly, "--version"],
        "dayfly run --help": [*dayfly, "run", "--help"],
        "dayfly ps": [*dayfly, "ps"],
        "dayfly image list": [*dayfly, "image", "list"],
    }


def own_process(unit: str, measure: Callable[[Sequence[str]], float], dayfly: Sequence[str], image: str, runs: int) -> None:
    """The host's part of a start: our own process alone, without its children."""
    commands = start_commands(dayfly, image)
    floor: list[float] = []
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for round_ in range(runs + 1):
        bare = measure([sys.executable, "-I", "-S", "-c", "pass"])
        figures = {name: measure(command) for name, command in commands.items()}
        if round_ > 0:  # the first makes the template
            floor.append(bare)
            for name, figure in figures.items():
                taken[name].append(figure)
    show(
        Figure("python -I -S -c pass", tuple(floor), unit),
        [Figure(name, tuple(values), unit) for name, values in taken.items()],
    )


def cpu(image: str, runs: int) -> None:
    """CPU time of our own process."""
    print("\nCPU time (user and system) of our own process alone, without its children")
    own_process("ms", own_cpu, [DAYFLY], image, runs)


def count(image: str, runs: int) -> None:
    """Instructions of our own process. The launcher, which is a program of its own, does not count."""
    print("\nmillions of instructions in user mode of our own process alone, without its children")
    own_process("M", instructions, [sys.executable, f"{DAYFLY}-main"], image, runs)


def cold(image: str, runs: int) -> None:
    """A machine that boots."""
    boot = BootMode(Bare(image).image.config.boot)
    bare_machine = Bare(image, boot)
    bare: list[BareRun] = []
    whole: list[float] = []
    times: list[dict[str, float]] = []
    for round_ in range(runs + 1):
        one, other = bare_machine.run(b"true"), whole_command(image, "--no-share", "--cold")
        if round_ > 0:  # the first warms the page cache
            bare.append(one)
            whole.append(other)
            times.append(phases())
    print(f"\ncold start of {image}, boot {boot}, emulated: to the end of the job `true`")
    floor = Figure("bare QEMU, to the job's exit report", tuple(run.exited for run in bare), "s")
    show(
        floor,
        [
            Figure("bare QEMU, until it is gone", tuple(run.gone for run in bare), "s"),
            Figure("dayfly: from the spawn to the exit report", tuple(at["exited"] - at["spawned"] for at in times), "s"),
            Figure("dayfly run IMAGE --cold -- true, the whole command", tuple(whole), "s"),
        ],
    )


def warm(image: str, runs: int) -> None:
    """The warm start: a clone of a template, without a share and with the working directory shared."""
    for title, share, options in (("nothing shared", "", ("--no-share",)), ("the working directory shared", str(Path.cwd()), ())):
        clones = BareClones(image, share)
        floors: list[float] = []
        mounted: list[float] = []
        bytes_: list[float] = []
        whole: list[float] = []
        for round_ in range(runs + 1):
            floor, _ = clones.one((b"echo",))
            own = clones.one((b"echo",), mounting=True)[0] if share else floor
            figures = first_byte(image, *options), whole_command(image, *options)
            if round_ > 0:
                floors.append(floor)
                mounted.append(own)
                bytes_.append(figures[0])
                whole.append(figures[1])
        print(f"\nclone of {image}, {title}: to the job's first byte")
        more = [Figure("bare clone that mounts the share", tuple(mounted), "s")] if share else []
        show(
            Figure("bare clone", tuple(floors), "s"),
            [
                *more,
                Figure("dayfly run IMAGE -- echo, its first byte", tuple(bytes_), "s"),
                Figure("dayfly run IMAGE -- true, the whole command", tuple(whole), "s"),
            ],
        )


def at_once(image: str, runs: int) -> None:
    """Many clones at once."""
    clones = BareClones(image)
    floors: list[float] = []
    jobs: list[float] = []
    for round_ in range(runs + 1):
        with clones.held(AT_ONCE) as (_, seconds):
            floor = seconds
        other = many(image)
        if round_ > 0:
            floors.append(floor)
            jobs.append(other)
    print(f"\n{AT_ONCE} clones of {image} at once: until the last has written its first byte")
    show(
        Figure(f"{AT_ONCE} bare clones", tuple(floors), "s"),
        [Figure(f"{AT_ONCE} times dayfly run", tuple(jobs), "s")],
    )


def memory(image: str) -> None:
    """The memory of the host that each clone uses, for several numbers of clones. One run each, because it does not vary."""
    clones = BareClones(image)
    print(f"\nproportional memory of a clone's QEMU, {image}, a machine of {clones.settings.machine_memory >> 20} MiB")
    for count in (1, 2, 4, 8, AT_ONCE):
        with clones.held(count) as (held_, _):
            show(Figure(f"{count} at once, each", tuple(_memory_of(held_)), "MB"), [])


def _memory_of(clones: list[Clone]) -> list[float]:
    return [proportional(clone.qemu.pid) for clone in clones]


def system(agent_image: str, system_image: str, runs: int) -> None:
    """The clone of a `system` image, compared with that of an `agent` image."""
    bare = BareClones(agent_image), BareClones(system_image)
    figures: list[list[float]] = [[], [], [], []]
    for round_ in range(runs + 1):
        taken = [clones.one((b"echo",))[0] for clones in bare]
        taken += [first_byte(image, "--no-share") for image in (agent_image, system_image)]
        if round_ > 0:
            for values, value in zip(figures, taken, strict=True):
                values.append(value)
    print(f"\nclone of {system_image}, boot system, compared with {agent_image}: to the job's first byte")
    show(
        Figure(f"bare clone of {agent_image}", tuple(figures[0]), "s"),
        [Figure("bare clone of the system", tuple(figures[1]), "s")],
    )
    show(
        Figure(f"dayfly run {agent_image} -- echo", tuple(figures[2]), "s"),
        [Figure("dayfly run SYSTEM -- echo", tuple(figures[3]), "s")],
    )


def imports(image: str, runs: int) -> None:
    """The time before QEMU is executed."""
    print("\nbefore QEMU is executed")
    with tempfile.TemporaryDirectory() as folder:
        before = [to_qemu(image, Path(folder)) * 1000 for _ in range(runs)]
    show(
        Figure("python -c pass", tuple(python("pass") * 1000 for _ in range(runs)), "ms"),
        [
            Figure("interpreter start and imports before QEMU", tuple(python(IMPORTS) * 1000 for _ in range(runs)), "ms"),
            Figure("dayfly --cold: exec to QEMU's exec", tuple(before), "ms"),
        ],
    )


def there_is(image: str) -> bool:
    """Whether a library has this image. Prints a notice if none has."""
    try:
        Libraries(load()).find(image)
    except NotFound:
        print(f"\nno figures for boot system: there is no image {image} (dayfly image build {image})")
        return False
    return True


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", default="debian:12")
    parser.add_argument("--system", default="debian:12-system")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--only", default="cold,warm,cpu,many,memory,system,imports")
    arguments = parser.parse_args()
    image, runs, wanted = arguments.image, arguments.runs, arguments.only.split(",")
    compileall.compile_dir(Path(dayfly.__file__).parent, quiet=1)  # as in an installation, whatever the environment says
    show_host()
    if "cold" in wanted:
        cold(image, runs)
    if "warm" in wanted:
        warm(image, runs)
    if "cpu" in wanted:
        cpu(image, runs)
    if "instructions" in wanted:
        count(image, runs)
    if "many" in wanted:
        at_once(image, runs)
    if "memory" in wanted:
        memory(image)
    if "system" in wanted and there_is(arguments.system):
        system(image, arguments.system, runs)
    if "imports" in wanted:
        imports(image, runs)


if __name__ == "__main__":
    main()
