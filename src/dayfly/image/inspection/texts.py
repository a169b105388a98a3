"""Text from an image, made printable. Pure."""

from __future__ import annotations

LONGEST = 512


def shown(raw: bytes | str, limit: int = LONGEST) -> str:
    """Text with control characters and invalid bytes escaped, as in `\\x1b`.

    If longer than `limit`, it is cut and ends in `…`.
    """
    text = raw[: limit * 4].decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else raw
    clean = "".join(letter if letter.isprintable() else _escaped(letter) for letter in text[: limit + 1])
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode()
