"""The top-level parser: for `dayfly --help`, `--version`, shell completion and the man pages."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from dayfly.cli.commands import COMMANDS, command, version
from dayfly.cli.parser import Parser

DESCRIPTION = "Every batch job in a fresh virtual machine of its choice."
EPILOG = """\
`dayfly COMMAND --help` describes a command, and so do the man pages dayfly(1), dayfly-run(1) and so on. Dayfly's own failures
exit with 125; otherwise `dayfly run` exits with the job's status.
"""


def toplevel_parser() -> Parser:
    """`dayfly` with all its commands."""
    parser = Parser(prog="dayfly", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=version())
    commands = parser.add_subparsers(metavar="COMMAND", title="commands", dest="dayfly_command")
    for name, summary in COMMANDS.items():
        module = command(name)
        below = commands.add_parser(name, help=summary, description=module.DESCRIPTION)
        module.configure(below)
        below.set_defaults(execute=module.execute)
    return parser


def parse_toplevel(words: Sequence[str]) -> int:
    """Handle a command line without a command, or a shell's completion request."""
    parser = toplevel_parser()
    if "_ARGCOMPLETE" in os.environ:
        from dayfly.cli.completers import complete  # noqa: PLC0415 (only while a shell completes)

        complete(parser)
    arguments: argparse.Namespace = parser.parse_args(words)
    if arguments.dayfly_command is None:
        parser.print_help(sys.stderr)
        return 125
    status: int = arguments.execute(arguments)
    return status
