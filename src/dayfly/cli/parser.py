"""Argument parsing with Dayfly's error reports: one line, a hint, exit status 125."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

from dayfly.errors import DayflyError
from dayfly.values import dataclass


class _English(ModuleType):
    """Replaces gettext while argparse is imported. Python has no translations of argparse's texts: gettext would look for them at
    each start in vain, and import `locale` for that.
    """

    def __init__(self) -> None:
        super().__init__("gettext")

    @staticmethod
    def gettext(message: str) -> str:
        """The message itself."""
        return message

    @staticmethod
    def ngettext(one: str, several: str, count: int) -> str:
        """The message for this count."""
        return one if count == 1 else several


if "argparse" in sys.modules or "gettext" in sys.modules:
    import argparse
else:
    sys.modules["gettext"] = _English()
    import argparse

    del sys.modules["gettext"]

TYPE_CHECKING = False  # typing's own costs an import at every start, and checkers know the name
if TYPE_CHECKING:
    from typing import NoReturn

IMAGE_HELP = "the image's name, like debian:12, or its digest; system/ or user/ before it says which library"


class UsageError(DayflyError):
    """The command line is invalid."""


@dataclass(frozen=True)
class Command:
    """A subcommand. Its description is its help, as a sentence."""

    name: str
    help: str
    act: Callable[..., int]
    configure: Callable[[Parser], None]


class _Formatter(argparse.HelpFormatter):
    """Help as wide as the terminal. argparse's own way to find the width costs an import at every start, even without help."""

    def __init__(self, prog: str) -> None:
        columns = os.environ.get("COLUMNS", "")
        try:
            width = int(columns) if columns.isdecimal() else os.get_terminal_size().columns
        except OSError:
            width = 80
        super().__init__(prog, width=max(width - 2, 40))


class Parser(argparse.ArgumentParser):
    """An argument parser that raises `UsageError`. `surplus` is the hint for unrecognized arguments."""

    surplus = ""
    first_word = ""
    """The first word of the command line that it is made for, if known."""
    _mixing = False

    def __init__(self, *, prog: str, description: str = "", epilog: str = "", help: str = "") -> None:  # noqa: A002, ARG002
        super().__init__(prog=prog, description=description, epilog=epilog, formatter_class=_Formatter)

    def add_commands(self, dest: str, commands: Sequence[Command]) -> None:
        """Add subcommands: the one in the command line, or all if it has none of them."""
        below = self.add_subparsers(metavar="COMMAND", required=True, title="commands", dest=dest)
        for command in [command for command in commands if command.name == self.first_word] or commands:
            description = command.help[0].upper() + command.help[1:] + "."
            parser: Parser = below.add_parser(command.name, help=command.help, description=description)
            parser.set_defaults(act=command.act)
            command.configure(parser)

    def parse_known_args(  # type: ignore[override]  # argparse's own signature is overloaded
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Options may be anywhere between the arguments; unrecognized ones are reported by the command that was called."""
        if self._mixing or self._subparsers is not None:
            return super().parse_known_args(args, namespace)
        self._mixing = True
        several = len(self._get_positional_actions()) > 1  # with one, argparse reports it by itself, and earlier
        parse = self.parse_known_intermixed_args if several else super().parse_known_args
        try:
            found, surplus = parse(args, namespace)
        finally:
            self._mixing = False
        if surplus and "_ARGCOMPLETE" not in os.environ:
            self.error(f"unrecognized arguments: {' '.join(surplus)}")
        return found, surplus

    def error(self, message: str) -> NoReturn:
        """Report an error of the command line, with a hint unless the message has one already."""
        hint = f"see `{self.prog} --help`"
        if message.startswith("unrecognized arguments:"):
            hint = self.surplus or hint
        raise UsageError(message, "" if message.endswith(")") else hint)


def checked(parse: Callable[[str], object]) -> Callable[[str], object]:
    """A type for `add_argument`: reads a value with `parse`, whose `DayflyError` becomes the option's error."""

    def read(text: str) -> object:
        try:
            return parse(text)
        except DayflyError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read


def counted(least: int, most: int) -> Callable[[str], int]:
    """A type for `add_argument`: a whole number from `least` to `most`."""

    def read(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return read


def positive(text: str) -> int:
    """A whole number above zero."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return int(text)
