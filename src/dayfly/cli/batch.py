"""`dayfly batch`: what a batch system needs to know of Dayfly."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dayfly import settings as site
from dayfly.cli.parser import Parser, UsageMistake

DESCRIPTION = """\
Print what a site adds to its batch system's configuration, made from the site's settings. Nothing is written.
"""
SETUP = """\
Print the lines of plugstack.conf and slurm.conf, and a job_submit.lua that refuses what the site's settings do not allow.
"""
SYSTEMS = ("slurm",)


def configure(parser: Parser) -> None:
    """Add the arguments of `dayfly batch`."""
    commands = parser.add_subparsers(metavar="COMMAND", title="commands", dest="batch_command", required=True)
    setup = commands.add_parser("setup", help="print what to add to a batch system's configuration", description=SETUP)
    setup.add_argument("system", metavar="SYSTEM", choices=SYSTEMS, help="slurm")
    setup.add_argument("--show", metavar="FILE", help="print only what belongs into this file, like plugstack.conf")
    setup.add_argument(
        "--plugin",
        metavar="PATH",
        default="/usr/local/lib/dayfly/dayfly_spank.so",
        help="where the nodes have the plugin (default: where `make -C spank install` puts it)",
    )
    setup.add_argument("--program", metavar="PATH", default="", help="where the nodes have dayfly (default: where this one is)")
    setup.add_argument(
        "--settings", metavar="PATH", default="", help=f"the site's settings on the nodes (default: {site.SITE_FILE})"
    )


def execute(arguments: argparse.Namespace) -> int:
    """Print the files, or one of them."""
    from dayfly.batch.slurm.setup import files  # noqa: PLC0415 (only where it is asked for)

    settings = site.load(Path(arguments.settings) if arguments.settings else None)
    program = arguments.program or str(Path(sys.argv[0]).absolute())
    texts = files(settings, arguments.plugin, program, arguments.settings)
    if arguments.show:
        if arguments.show not in texts:
            raise UsageMistake(f"{arguments.show} is none of the files", f"these: {', '.join(texts)}")
        print(texts[arguments.show], end="")
        return 0
    for name, text in texts.items():
        print(f"# {name}\n{text}")
    return 0
