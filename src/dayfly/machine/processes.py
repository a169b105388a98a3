"""The machines that run on this host, read from the process table: there is no other register that could be out of date."""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from dayfly.machine.command import CPUS, NAME_PREFIX
from dayfly.process import Lifetime
from dayfly.values import dataclass

_LIFETIMES = "|".join(Lifetime)
_NAME = rf"(?s:guest={NAME_PREFIX}([0-9a-f]{{10}}):({_LIFETIMES}):(.*))"
_MEMORY = r"(\d{1,12})K"


@dataclass(frozen=True)
class Running:
    """A machine's process, child of the process `owner`. Memory in bytes, age and CPU in seconds."""

    identity: str
    label: str
    pid: int
    owner: int
    uid: int
    cpus: int
    memory: int
    age: float
    cpu: float
    accelerator: str
    cpu_model: str
    lifetime: str


def running() -> Iterator[Running]:
    """All machines of all users, oldest first."""
    found = (_read(entry) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    yield from sorted((machine for machine in found if machine), key=lambda machine: -machine.age)


def _read(entry: Path) -> Running | None:
    try:
        machine = parse_command(entry.joinpath("cmdline").read_bytes().decode(errors="replace").split("\0"))
        if machine is None:
            return None
        stat = entry.joinpath("stat").read_text().rpartition(")")[2].split()
        uid = entry.stat().st_uid
    except OSError:  # it ended meanwhile
        return None
    ticks = os.sysconf("SC_CLK_TCK")
    identity, lifetime, label, cpus, memory, accelerator, cpu_model = machine
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(stat[19]) / ticks
    cpu = (int(stat[11]) + int(stat[12])) / ticks
    return Running(identity, label, int(entry.name), int(stat[1]), uid, cpus, memory, age, cpu, accelerator, cpu_model, lifetime)


def parse_command(words: list[str]) -> tuple[str, str, str, int, int, str, str] | None:
    """Identity, lifetime, label, CPUs, memory, accelerator and CPU model from an argv of `dayfly.machine.command`.

    None for any other argv.
    """
    values = dict(itertools.pairwise(words[1:]))
    name = re.fullmatch(_NAME, values.get("-name", ""))
    memory = re.fullmatch(_MEMORY, values.get("-m", ""))
    cpus = values.get("-smp", "")
    if name is None or memory is None or not cpus.isdecimal():
        return None
    accelerator = values.get("-accel", "").partition(",")[0]
    cpu_model = next((str(model) for model, words in CPUS.items() if words == values.get("-cpu")), "")
    return name[1], name[2], name[3].replace(",,", ","), int(cpus), int(memory[1]) * 1024, accelerator, cpu_model
