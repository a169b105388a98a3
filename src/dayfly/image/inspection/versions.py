"""Versions of Debian packages compared as deb-version(7), "Sorting algorithm", says. Pure."""

from __future__ import annotations

import re
from functools import cmp_to_key

_PART = re.compile(r"([^0-9]*)([0-9]*)", re.ASCII)


def compare(one: str, other: str) -> int:
    """Below zero where the one is older than the other, zero where they are equal."""
    (epoch, upstream, revision), (epoch_, upstream_, revision_) = _split(one), _split(other)
    return _order(_number(epoch), _number(epoch_)) or _compare_part(upstream, upstream_) or _compare_part(revision, revision_)


KEY = cmp_to_key(compare)
"""For sorting."""


def _split(version: str) -> tuple[str, str, str]:
    epoch, colon, rest = version.strip().partition(":")
    if not colon:
        epoch, rest = "", version.strip()
    upstream, dash, revision = rest.rpartition("-")
    return (epoch, upstream, revision) if dash else (epoch, rest, "")


def _compare_part(one: str, other: str) -> int:
    """Compare non-digits and numbers in turn."""
    firsts, seconds = _PART.findall(one), _PART.findall(other)
    for index in range(max(len(firsts), len(seconds))):
        text, number = firsts[index] if index < len(firsts) else ("", "")
        text_, number_ = seconds[index] if index < len(seconds) else ("", "")
        found = _compare_text(text, text_) or _order(_number(number), _number(number_))
        if found:
            return found
    return 0


def _compare_text(one: str, other: str) -> int:
    length = max(len(one), len(other))
    return _order(_weights(one, length), _weights(other, length))


def _weights(text: str, length: int) -> list[int]:
    """Letters sort before other characters, the end before letters, and a tilde before the end."""
    weights = [
        -1 if letter == "~" else ord(letter) if letter.isascii() and letter.isalpha() else ord(letter) + 256 for letter in text
    ]
    return weights + [0] * (length - len(text))


def _number(digits: str) -> tuple[int, str]:
    """A key that sorts like the number, however long it is."""
    significant = digits.lstrip("0")
    return len(significant), significant


def _order(one: tuple[int, str] | list[int], other: tuple[int, str] | list[int]) -> int:
    return (one > other) - (one < other)  # type: ignore[operator]
