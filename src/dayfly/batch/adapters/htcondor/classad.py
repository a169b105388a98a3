"""Reads ClassAds in files: the old text format, one attribute in each line (HTCondor's manual, "ClassAds: Old and New").

Only literals are read: strings, numbers, true and false. Expressions are ignored. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

Value = str | int | float | bool

_LINE = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]{0,255})\s*=\s*(.*?)\s*", re.DOTALL)
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_REAL = re.compile(r"[+-]?[0-9]{1,30}(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,2})?")
_MOST_LINES = 10_000
_LONGEST = 64 * 1024
"""The longest line that is read, in characters; a longer one, such as a job's environment, is not needed."""


def parse(text: str) -> dict[str, Value]:
    """The literals by name in lower case, since names are case-insensitive. Of duplicates the last one counts."""
    found: dict[str, Value] = {}
    for line in text.split("\n", _MOST_LINES)[:_MOST_LINES]:
        match = _LINE.fullmatch(line) if len(line) <= _LONGEST else None
        if match is None:
            continue
        value = _value(match[2])
        name = match[1].lower()
        if value is None:
            found.pop(name, None)
        else:
            found[name] = value
    return found


def _value(text: str) -> Value | None:
    if string := _STRING.fullmatch(text):
        # In this format a backslash is literal except before a quotation mark.
        return string[1].replace('\\"', '"')
    if _INTEGER.fullmatch(text):
        return int(text)
    if _REAL.fullmatch(text):
        return float(text)
    return {"true": True, "false": False}.get(text.lower())


def string(ad: Mapping[str, Value], name: str) -> str:
    """An attribute as text of at most 1024 characters; empty if it is missing."""
    value = ad.get(name.lower(), "")
    return str(value)[:1024] if isinstance(value, (str, int)) else ""


def number(ad: Mapping[str, Value], name: str) -> int:
    """A numeric attribute, rounded down; 0 if it is missing or negative."""
    value = ad.get(name.lower(), 0)
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1 << 60 else 0
