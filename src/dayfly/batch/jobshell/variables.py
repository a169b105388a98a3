"""What batch systems say of a job in variables, read with care: a user can change them. Pure, on the way to every job's start."""

from __future__ import annotations

from collections.abc import Mapping


def text(variables: Mapping[bytes, bytes], name: bytes) -> str:
    """A variable as a record shows it: at most 256 characters; empty where it is not set."""
    return variables.get(name, b"").decode(errors="replace")[:256]


def number(variables: Mapping[bytes, bytes], name: bytes) -> int:
    """A variable that is a number; 0 for what is none."""
    value = variables.get(name, b"")
    return int(value) if value.isdigit() and len(value) < 16 else 0


def identity(variables: Mapping[bytes, bytes], names: Mapping[str, bytes]) -> dict[str, str]:
    """Who a job is, for its record: the texts of those variables that are set, by what the record calls them."""
    return {name: text(variables, variable) for name, variable in names.items() if variables.get(variable)}
