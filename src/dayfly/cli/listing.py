"""Prints rows as tables or as JSON."""

from __future__ import annotations

import argparse
import sys
import unicodedata
from collections.abc import Mapping, Sequence


def add_json(parser: argparse.ArgumentParser) -> None:
    """The option that every listing has."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def print_json(value: object) -> None:
    """Print one JSON document. Bytes of names that are not UTF-8 are written as JSON escapes."""
    import json  # noqa: PLC0415 (not for tables)

    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    sys.stdout.write(text.encode(errors="backslashreplace").decode())


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> None:
    """Print a table; each column but the last is as wide as its widest cell. Without rows, `empty` goes to stderr."""
    if not rows:
        sys.stderr.write(f"{empty}\n")
        return
    sys.stdout.write(table(titles, rows))


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The text of a table."""
    lines = [titles, *([clean(cell) for cell in row] for row in rows)]
    widths = [max(width(line[column]) for line in lines) for column in range(len(titles))]
    return "".join(_line(line, widths) + "\n" for line in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell + " " * (room - width(cell)) for cell, room in zip(cells, widths, strict=True)).rstrip()


def clean(text: str) -> str:
    """Text without control characters."""
    return "".join(character if character.isprintable() else "?" for character in text)


def width(text: str) -> int:
    """The columns that a text takes on a terminal."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def print_fields(fields: Mapping[str, str]) -> None:
    """Print names and values, one pair in each line."""
    room = max(map(len, fields), default=0)
    for name, value in fields.items():
        sys.stdout.write(f"{name + ':':{room + 1}} {clean(value)}\n")
