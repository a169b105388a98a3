"""`dayfly submit`: one description of a job, for every batch system and for this host."""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import asdict
from pathlib import Path

from dayfly.cli.listing import add_json, print_json
from dayfly.cli.parser import Parser

DESCRIPTION = """\
Submit the job that a file describes to this host's batch system, and print the job's id, for `dayfly job`.
"""
SYSTEMS = ("slurm", "gridengine", "pbs", "htcondor", "torque", "local")


def configure(parser: Parser) -> None:
    """Add the arguments of `dayfly submit`."""
    parser.add_argument("file", metavar="FILE", type=Path, help="the job's description, TOML")
    parser.add_argument(
        "--batch",
        metavar="SYSTEM",
        choices=SYSTEMS,
        default="",
        help="slurm, gridengine, pbs, htcondor, torque, or local for this host alone (default: the one that this host has)",
    )
    parser.add_argument("--dry-run", action="store_true", help="print what the batch system would be given, and submit nothing")
    add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Submit a job."""
    from dayfly.batch.submission import client, description, local  # noqa: PLC0415 (only for this command)
    from dayfly.batch.submission.system import LOCAL, find  # noqa: PLC0415
    from dayfly.batch.systems import SYSTEMS as KNOWN  # noqa: PLC0415

    job = description.read(arguments.file)
    system = None if arguments.batch == LOCAL else find(arguments.batch, KNOWN)
    if arguments.dry_run:
        if system is None:
            sys.stdout.write(f"{shlex.join(['dayfly', *local.words(job)[3:]])}\n")
        else:
            sys.stdout.write(f"# {shlex.join(system.adapter.SUBMIT)}\n{system.render(job)}")
        return 0
    made = client.Client(KNOWN).submit(job, system)
    if arguments.json:
        print_json({"id": made.id, **asdict(made)})
    else:
        sys.stdout.write(f"{made.id}\n")
    return 0
