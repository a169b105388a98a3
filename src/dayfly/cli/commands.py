"""The commands of `dayfly`, and the module of each."""

from __future__ import annotations

import importlib
from types import ModuleType

from dayfly import __version__

COMMANDS = {
    "run": "run a command in a fresh virtual machine",
    "image": "build, import, move, list, inspect and remove images",
    "template": "make, list and remove the booted machines that jobs are cloned from",
    "trust": "follow and publish signed lists of images",
    "policy": "show what the site's policy allows",
    "ps": "show the machines that run on this host",
    "usage": "show usage records: what jobs were and what they used",
    "submit": "submit a job to this host's batch system",
    "job": "show, wait for and cancel submitted jobs",
    "batch": "set up a batch system whose jobs run in machines",
    "doctor": "check everything that Dayfly depends on",
    "completion": "print the completion script of a shell",
}


def command(name: str) -> ModuleType:
    """The module of a command. It has a `DESCRIPTION`, `configure(parser)` and `execute(arguments)`, which returns a status."""
    return importlib.import_module(f"dayfly.cli.{name}")


def version() -> str:
    """`dayfly 0.1.0`."""
    return f"dayfly {__version__}"
