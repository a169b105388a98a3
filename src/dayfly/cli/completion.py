"""`dayfly completion`: the completion script of a shell for Dayfly's commands, options and image names."""

from __future__ import annotations

import argparse
import sys

from dayfly.cli.parser import Parser

DESCRIPTION = """\
Print the script that makes a shell complete the commands and options of dayfly, the names of images and recipes, and the
ids of usage records. Have the shell read it when it starts.
"""


def configure(parser: Parser) -> None:
    """Add the arguments of `dayfly completion`."""
    parser.add_argument("shell", choices=["bash", "zsh", "fish"], help="the shell to print the script for")


def execute(arguments: argparse.Namespace) -> int:
    """Print the script."""
    from argcomplete.shell_integration import shellcode  # noqa: PLC0415 (only for this command)

    sys.stdout.write(shellcode(["dayfly"], shell=arguments.shell))
    return 0
