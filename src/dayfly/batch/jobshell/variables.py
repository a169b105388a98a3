"""Reads a batch system's variables with care: users can change them. Pure, on the hot path of every job."""

from __future__ import annotations

from collections.abc import Mapping


def text(variables: Mapping[bytes, bytes], name: bytes) -> str:
    """A variable for a usage record: at most 256 characters; empty if it is not set."""
    return variables.get(name, b"").decode(errors="replace")[:256]


def number(variables: Mapping[bytes, bytes], name: bytes) -> int:
    """A numeric variable; 0 if it is not a number."""
    value = variables.get(name, b"")
    return int(value) if value.isdigit() and len(value) < 16 else 0


def identity(variables: Mapping[bytes, bytes], names: Mapping[str, bytes]) -> dict[str, str]:
    """A job's identity for its record: the variables that are set, by their names in the record."""
    return {name: text(variables, variable) for name, variable in names.items() if variables.get(variable)}
