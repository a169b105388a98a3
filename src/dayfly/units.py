"""Parsing and formatting of sizes, durations and times."""

from __future__ import annotations

import re
import time

from dayfly.errors import Refused

_SIZE = r"(?ai)(\d{1,15})(?:\.(\d{1,3}))?\s*([KMGT]?)(i?B)?"
_DURATION = r"(?ai)(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s?)?"
_NAMES = ("B", "KiB", "MiB", "GiB", "TiB")
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_size(text: str) -> int:
    """Bytes of `512M`, `2G`, `1.5GiB` or plain `1048576`; units are powers of 1024.

    Raises `Refused` for anything else and for zero.
    """
    match = re.fullmatch(_SIZE, text.strip())
    if match is None:
        raise Refused(f"{text!r} is not a size", "write it like 512M or 2G")
    whole, fraction, unit, _ = match.groups()
    factor = 1 << 10 * _POWERS[unit.upper()]
    size = int(whole) * factor + (int(fraction) * factor // 10 ** len(fraction) if fraction else 0)
    if size <= 0:
        raise Refused(f"{text!r} is not a size above zero", "write it like 512M or 2G")
    return size


def parse_duration(text: str) -> float:
    """Seconds of `90`, `90s`, `10m`, `1h30m` or `2d`.

    Raises `Refused` for anything else and for zero.
    """
    match = re.fullmatch(_DURATION, text.strip())
    groups = match.groups() if match else ()
    if not any(groups):
        raise Refused(f"{text!r} is not a duration", "write it like 90s, 10m or 1h30m")
    days, hours, minutes, seconds = (int(group or 0) for group in groups)
    total = days * 86400 + hours * 3600 + minutes * 60 + seconds
    if total == 0:
        raise Refused(f"{text!r} is not a duration above zero", "write it like 90s, 10m or 1h30m")
    return float(total)


def format_size(size: int, than: int | None = None) -> str:
    """`1.5 GiB`, with one decimal if that is exact enough; otherwise in a smaller unit, `1025 MiB`.

    If it would look equal to the size `than` that it is compared with, it is in bytes.
    """
    powers = next((power for power in range(4, 0, -1) if size >= 1 << 10 * power), 0)
    value = size / (1 << 10 * powers)
    if powers and round(value, 1) != value and size % (1 << 10 * (powers - 1)) == 0 and value < 9.7:
        powers, value = powers - 1, value * 1024
    rounded = f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"
    if than is not None and size != than and float(rounded) == float(f"{than / (1 << 10 * powers):.{1 if value < 100 else 0}f}"):
        return f"{size} B"
    return f"{rounded} {_NAMES[powers]}"


def format_duration(seconds: float) -> str:
    """`85 ms`, `2.31 s`, `4 min 10 s` or `3 h 5 min`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.2f} s"
    minutes = int(seconds) // 60
    if minutes < 60:
        return f"{minutes} min {int(seconds) % 60} s"
    return f"{minutes // 60} h {minutes % 60} min"


def format_time(seconds: float) -> str:
    """`2026-01-02T03:04:05Z`, of seconds since the epoch: ISO 8601, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def timestamp(seconds: float) -> str:
    """ISO 8601 in UTC, with milliseconds."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"
