"""Arguments that select a library or an image."""

from __future__ import annotations

import argparse

from dayfly.cli.parser import IMAGE_HELP, checked
from dayfly.image.reference import LibraryKind, parse


def add_image(parser: argparse.ArgumentParser) -> None:
    """Add `IMAGE`."""
    parser.add_argument("image", metavar="IMAGE", type=checked(parse), help=IMAGE_HELP)


def add_system(parser: argparse.ArgumentParser, help_: str) -> None:
    """Add `--system`: sets `kind` to the system library, the user's without it."""
    parser.add_argument(
        "--system", action="store_const", dest="kind", const=LibraryKind.SYSTEM, default=LibraryKind.USER, help=help_
    )
