"""`dayfly ps`: the machines that run on this host."""

from __future__ import annotations

import argparse
import pwd

from dayfly.cli.listing import add_json, print_json, print_table
from dayfly.cli.parser import Parser
from dayfly.machine.processes import Running, running
from dayfly.units import format_duration, format_size
from dayfly.values import asdict

DESCRIPTION = """\
Show the machines that run on this host, of all users. They are read from the process table: a machine is a process. An owned
machine ends with the process that started it; a detached one has a keeper process of its own and outlives its caller.
"""


def configure(parser: Parser) -> None:
    """Add the arguments of `dayfly ps`."""
    add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    """List them."""
    machines = list(running())
    if arguments.json:
        print_json([asdict(machine) | {"user": user_name(machine.uid)} for machine in machines])
    else:
        titles = ("ID", "IMAGE", "USER", "PID", "CPUS", "MEMORY", "ACCEL", "CPU MODEL", "LIFETIME", "AGE", "CPU")
        print_table(titles, [_row(machine) for machine in machines], "no machines run on this host")
    return 0


def _row(machine: Running) -> tuple[str, ...]:
    return (
        machine.identity,
        machine.label,
        user_name(machine.uid),
        str(machine.pid),
        str(machine.cpus),
        format_size(machine.memory),
        machine.accelerator,
        machine.cpu_model,
        machine.lifetime,
        format_duration(machine.age),
        format_duration(machine.cpu),
    )


def user_name(uid: int) -> str:
    """A user's name, or the uid if there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
