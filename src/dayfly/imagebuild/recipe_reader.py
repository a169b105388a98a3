"""Strict reading of a table of a recipe: each value is checked, and every error is recorded with its place."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

from dayfly.errors import FieldError, Refused
from dayfly.units import parse_size


class Reader:
    """Reads the fields of one table. Each error is recorded with its place, and reading continues with a default."""

    def __init__(self, table: Mapping[str, object], place: str, errors: list[FieldError]) -> None:
        self.table = table
        self.place = place
        self.errors = errors

    def wrong(self, name: str, message: str, hint: str = "") -> None:
        """Record an error."""
        self.errors.append(FieldError(f"{self.place}{name}", message, hint))

    def only(self, *names: str) -> None:
        """Record an error for every other field."""
        for name in self.table:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                self.wrong(
                    name[:100], "unknown field", f"did you mean {near[0]}?" if near else "docs/reference/recipe.md lists them"
                )

    def text(self, name: str, pattern: re.Pattern[str] | None, default: str | None = None, hint: str = "") -> str:
        """Text that matches the pattern. If it is missing: the default, or an error if there is no default."""
        value = self.table.get(name, default)
        if value is None:
            self.wrong(name, "is missing", hint)
        elif not isinstance(value, str) or (pattern and value != default and not pattern.fullmatch(value)):
            self.wrong(name, f"cannot be {shown(value)}", hint)
        else:
            return value
        return default or ""

    def choice(self, name: str, among: Iterable[str], default: str | None = None) -> str:
        """One of some words."""
        choices = tuple(among)
        return self.text(name, re.compile("|".join(map(re.escape, choices))), default, f"one of {', '.join(choices)}")

    def number(self, name: str, lowest: int, highest: int, default: int | None = None) -> int:
        """A whole number within the bounds."""
        value = self.table.get(name, default)
        if isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest:
            return value
        self.wrong(name, "is missing" if value is None else f"cannot be {shown(value)}", f"a number from {lowest} to {highest}")
        return lowest

    def texts(self, name: str, pattern: re.Pattern[str], default: tuple[str, ...] = (), hint: str = "") -> tuple[str, ...]:
        """A list of texts that match the pattern, each once."""
        values = self.table.get(name, list(default))
        if not isinstance(values, list):
            self.wrong(name, "is not a list")
            return default
        good = []
        for position, value in enumerate(values):
            if not isinstance(value, str) or not pattern.fullmatch(value):
                self.wrong(f"{name}[{position}]", f"cannot be {shown(value)}", hint)
            elif value in good:
                self.wrong(f"{name}[{position}]", f"repeats {value}")
            else:
                good.append(value)
        return tuple(good)

    def size(self, name: str) -> int:
        """A size in bytes; 0 if it is missing."""
        text = self.text(name, None, "")
        try:
            return parse_size(text) if text else 0
        except Refused as error:
            self.wrong(name, error.message, error.hint)
            return 0

    def pairs(self, name: str, key_pattern: re.Pattern[str] | None, limit: int) -> dict[str, str]:
        """A table of texts."""
        inner = self.section(name)
        good = {}
        for key, value in inner.table.items():
            if key_pattern and not key_pattern.fullmatch(key):
                inner.wrong(key[:100], "is not a valid name")
            elif not isinstance(value, str) or len(value) > limit or not value.isprintable() or not key.isprintable():
                inner.wrong(key[:100], f"is not a line of text of at most {limit} characters")
            else:
                good[key] = value
        return good

    def section(self, name: str) -> Reader:
        """A table below this one; empty if it is missing."""
        value = self.table.get(name, {})
        if not isinstance(value, dict):
            self.wrong(name, "is not a table", f"write [{name}]")
            value = {}
        return Reader(value, f"{self.place}{name}.", self.errors)

    def sections(self, name: str) -> list[Reader]:
        """The tables of an array of tables."""
        values = self.table.get(name, [])
        if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
            self.wrong(name, "is not a list of tables", f"write [[{name}]]")
            values = []
        return [Reader(value, f"{self.place}{name}[{position}].", self.errors) for position, value in enumerate(values)]


def shown(value: object) -> str:
    """A value, for messages."""
    return repr(value)[:100]
