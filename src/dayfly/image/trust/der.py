"""Reads DER (X.690): elements, each a tag and a value. Malformed input is refused."""

from __future__ import annotations

from collections.abc import Iterator

from dayfly.errors import Refused


def one(content: bytes, wanted: int) -> bytes:
    """The value of the only element, which must have this tag. Raises `Refused`."""
    found = list(within(content))
    if len(found) != 1 or found[0][0] != wanted:
        raise Refused("the certificate is malformed")
    return found[0][1]


def within(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The elements in DER, each by its tag (X.690, 8.1). Raises `Refused`."""
    position = 0
    while position < len(content):
        head = content[position : position + 2]
        if len(head) != 2 or head[0] & 0x1F == 0x1F:
            raise Refused("the certificate is truncated or has an invalid tag")
        length, start = head[1], position + 2
        if length & 0x80:
            count = length & 0x7F
            if not 1 <= count <= 3:
                raise Refused("the certificate has an invalid length")
            length, start = int.from_bytes(content[start : start + count]), start + count
        position = start + length
        if position > len(content):
            raise Refused("the certificate is truncated")
        yield head[0], content[start:position]
