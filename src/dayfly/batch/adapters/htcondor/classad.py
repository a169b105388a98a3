"""ClassAds as HTCondor writes them into files: the old text form, an attribute a line (its manual, "ClassAds: Old and New").

Only what is a plain value is read: strings, numbers, true and false. An expression means nothing here. Pure.
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
"""Characters of a line; a longer one (a job's environment can be) is none that we look for."""


def parse(text: str) -> dict[str, Value]:
    """The plain values by their names in small letters, since names are the same in capitals. Of two, the later one counts."""
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
        # In this form a backslash is one, but before a quotation mark.
        return string[1].replace('\\"', '"')
    if _INTEGER.fullmatch(text):
        return int(text)
    if _REAL.fullmatch(text):
        return float(text)
    return {"true": True, "false": False}.get(text.lower())


def string(ad: Mapping[str, Value], name: str) -> str:
    """An attribute as text of at most 1024 characters; empty where there is none."""
    value = ad.get(name.lower(), "")
    return str(value)[:1024] if isinstance(value, (str, int)) else ""


def number(ad: Mapping[str, Value], name: str) -> int:
    """An attribute that is a number, without its fraction; 0 where there is none, or one below."""
    value = ad.get(name.lower(), 0)
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1 << 60 else 0
