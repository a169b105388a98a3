"""Write the man pages in docs/man, from the parsers and from the parts in docs/man/parts that are written by hand.

Usage: tools/man.py. A page has NAME, SYNOPSIS, DESCRIPTION and OPTIONS or COMMANDS from the command line's parser, then the part
of the same name (unchanged man(7) macros), then SEE ALSO.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from dayfly.cli.commands import COMMANDS, version
from dayfly.cli.toplevel import DESCRIPTION, toplevel_parser

FOLDER = Path(__file__).parent.parent / "docs/man"
DATE = "2026-11-23"
"""The date of the last notable change. It is fixed, so that the same input always gives the same pages."""

_OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z0-9-]*")
_WORD = re.compile(r"(?<![\w-])[A-Z][A-Z:]*(?:=[A-Z]+)?(?![a-z])")


def main() -> None:
    """Write every page."""
    for name, text in pages().items():
        (FOLDER / name).write_text(text)


def pages() -> dict[str, str]:
    """The text of each page, by file name."""
    whole = toplevel_parser()
    commands = subcommands(whole)
    made = {"dayfly.1": page("dayfly", DESCRIPTION.rstrip(".").lower(), whole, _overview())}
    for name, summary in COMMANDS.items():
        parser = commands[name]
        below = subcommands(parser)
        made[f"dayfly-{name}.1"] = page(f"dayfly-{name}", summary, parser, _commands(below) if below else _options(parser))
    return made


def page(name: str, summary: str, parser: argparse.ArgumentParser, body: Iterator[str]) -> str:
    """One page."""
    part = FOLDER / f"parts/{name}.roff"
    lines = [
        '.\\" Made by tools/man.py. Change the parser, or docs/man/parts.',
        f'.TH {name.upper()} 1 {DATE} "{version()}" "Dayfly"',
        ".SH NAME",
        f"{name} \\- {summary}",
        ".SH SYNOPSIS",
        *_synopsis(parser),
        ".SH DESCRIPTION",
        *prose(parser.description or ""),
        *body,
        *part.read_text().rstrip("\n").splitlines(),
        ".SH SEE ALSO",
        *_references(name),
    ]
    return "\n".join(lines) + "\n"


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of a parser's subcommands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def prose(text: str) -> list[str]:
    """Text as roff: `code` in bold, and everything escaped that roff would interpret."""
    text = text.strip().replace("\\", "\\e")
    text = re.sub(r"`([^`]*)`", lambda match: f"\\fB{match[1].replace('-', chr(92) + '-')}\\fR", text)
    text = re.sub(r"(?<![\w\\-])(-{1,2})(?=\w)", lambda match: "\\-" * len(match[1]), text)
    return [f"\\&{line}" if line.startswith((".", "'")) else line for line in text.splitlines()]


def usage(parser: argparse.ArgumentParser) -> str:
    """A parser's usage in one line, with options in bold and placeholders in italics."""
    words = " ".join(parser.format_usage().removeprefix("usage: ").split()).replace("[-h] ", "").replace(" [-h]", "")
    rest = words.removeprefix(parser.prog)
    rest = _WORD.sub(lambda match: f"\\fI{match[0]}\\fR", rest)
    rest = _OPTION.sub(lambda match: f"\\fB{match[0]}\\fR", rest)
    rest = re.sub(r"(?<=[ [])-- ", r"\\fB--\\fR ", rest)
    return f"\\fB{parser.prog}\\fR{rest}".replace("-", "\\-").replace("...", "\\&...")


def _synopsis(parser: argparse.ArgumentParser) -> Iterator[str]:
    below = subcommands(parser)
    leaves = list(below.values()) if below and parser.prog != "dayfly" else [parser]
    for index, leaf in enumerate(leaves):
        if index:
            yield ".br"
        yield usage(leaf)


def _overview() -> Iterator[str]:
    yield ".SH COMMANDS"
    for name, summary in COMMANDS.items():
        yield from (".TP", f".BR dayfly\\-{name} (1)", *prose(summary))
    yield from (".SH OPTIONS", ".TP", "\\fB\\-\\-version\\fR", "print the version and exit")


def _commands(below: dict[str, argparse.ArgumentParser]) -> Iterator[str]:
    yield ".SH COMMANDS"
    for name, parser in below.items():
        yield f".SS {name}"
        yield from prose(parser.description or "")
        for group in parser._action_groups:
            yield from _arguments(group)


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    named = [group for group in parser._action_groups if any(True for _ in _arguments(group))]
    if named:
        yield ".SH OPTIONS"
    for group in named:
        if group.title not in ("positional arguments", "options"):
            yield f".SS {(group.title or '').capitalize()}"
        yield from _arguments(group)


def _arguments(group: argparse._ArgumentGroup) -> Iterator[str]:
    for action in group._group_actions:
        if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction | argparse._VersionAction):
            yield from (".TP", _term(action), *prose(action.help or ""))


def _term(action: argparse.Action) -> str:
    choices = f"{{{','.join(map(str, action.choices))}}}" if action.choices is not None else None
    value = action.metavar or choices or action.dest.upper()
    if not action.option_strings:
        return f"\\fI{value}\\fR"
    names = ", ".join(f"\\fB{name}\\fR" for name in action.option_strings).replace("-", "\\-")
    return names if action.nargs == 0 else f"{names} \\fI{value}\\fR"


def _references(name: str) -> Iterator[str]:
    others = [other for other in ("dayfly", *(f"dayfly-{command}" for command in COMMANDS)) if other != name]
    for index, other in enumerate(others):
        end = "," if index < len(others) - 1 else ""
        yield f".BR {other.replace('-', chr(92) + '-')} (1){end}"


if __name__ == "__main__":
    main()
