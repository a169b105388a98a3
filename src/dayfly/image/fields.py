"""Reads JSON from other sources: every field is checked and limited, and every error has its place."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping

from dayfly.errors import Refused

_UNPRINTABLE = "[\x00-\x1f\x7f-\x9f\ud800-\udfff]"


def decode(content: bytes, place: str) -> Fields:
    """The JSON object in `content`. Raises `Refused` for anything else."""
    try:
        value = json.loads(content, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Refused(f"{place} is not JSON: {error}") from None
    return Fields.of(value, place)


def encode(value: object) -> bytes:
    """Canonical JSON: equal values give equal bytes, so that digests are stable."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not a number in JSON")


class Fields:
    """One JSON object, and its place for messages."""

    def __init__(self, values: Mapping[str, object], place: str) -> None:
        self.values = values
        self.place = place

    @classmethod
    def of(cls, value: object, place: str) -> Fields:
        """`value` as an object. Raises `Refused` if it is not one."""
        if not isinstance(value, dict):
            raise Refused(f"{place} is not a JSON object")
        return cls(value, place)

    def has(self, name: str) -> bool:
        """Whether the field exists and is not null."""
        return self.values.get(name) is not None

    def text(
        self, name: str, pattern: str | re.Pattern[str] | None = None, *, limit: int = 1024, default: str | None = None
    ) -> str:
        """A line of text, at most `limit` characters, that fully matches `pattern`."""
        value = self.values.get(name)
        if value is None and default is not None:
            return default
        place = f"{self.place}.{name}"
        text = line(value, place, limit)
        if pattern is not None and not re.fullmatch(pattern, text):
            raise Refused(f"{place} has the invalid value {text[:100]!r}")
        return text

    def one_of(self, name: str, values: Collection[str]) -> str:
        """One of these texts."""
        text = self.text(name)
        if text not in values:
            raise Refused(f"{self.place}.{name} has the invalid value {text[:100]!r}")
        return text

    def number(self, name: str, lowest: int, highest: int) -> int:
        """A whole number."""
        value = self.values.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
            raise Refused(f"{self.place}.{name} is not a whole number from {lowest} to {highest}")
        return value

    def section(self, name: str) -> Fields:
        """An object; an empty one if the field is missing."""
        value = self.values.get(name)
        return Fields.of({} if value is None else value, f"{self.place}.{name}")

    def items(self, name: str, limit: int) -> list[object]:
        """A list of at most `limit` elements; empty if the field is missing."""
        value = self.values.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or len(value) > limit:
            raise Refused(f"{self.place}.{name} is not a list of at most {limit} elements")
        return value

    def table(self, name: str, *, entries: int, limit: int) -> dict[str, str]:
        """An object whose values are lines of text; empty if the field is missing."""
        values = self.section(name).values
        if len(values) > entries:
            raise Refused(f"{self.place}.{name} has more than {entries} entries")
        place = f"{self.place}.{name}"
        return {line(key, f"{place}: a name", 256): line(value, f"{place}.{key[:256]!r}", limit) for key, value in values.items()}


def line(value: object, place: str, limit: int) -> str:
    """A line of text: no control characters, no half of a surrogate pair."""
    if not isinstance(value, str):
        raise Refused(f"{place} is not text")
    if len(value) > limit:
        raise Refused(f"{place} is longer than {limit} characters")
    if not value.isprintable() and re.search(_UNPRINTABLE, value):
        raise Refused(f"{place} has a control character or an invalid character")
    return value
