"""LZ4 blocks, as erofs stores them. Pure."""

from __future__ import annotations

from dayfly.errors import Corrupt

_LEAST_MATCH = 4


def decompress(source: bytes, size: int) -> bytes:
    """The first `size` bytes of a block's content. Raises `Corrupt` if there are fewer.

    The format is LZ4's own (lz4_Block_format.md). Whatever the block says, no more than `size` bytes are kept in memory.
    """
    output = bytearray()
    position, end = 0, len(source)
    try:
        while position < end:
            token = source[position]
            position += 1
            length = token >> 4
            if length == 15:
                length, position = _longer(source, position, length)
            if length:
                output += source[position : min(position + length, end)]
                position += length
            if len(output) >= size or position >= end:
                break
            offset = source[position] | source[position + 1] << 8
            position += 2
            length = token & 15
            if length == 15:
                length, position = _longer(source, position, length)
            _repeat(output, offset, min(length + _LEAST_MATCH, size - len(output)))
    except IndexError:
        raise Corrupt("a compressed block is truncated") from None
    if len(output) < size:
        raise Corrupt("a compressed block has less content than expected")
    return bytes(output[:size])


def _longer(source: bytes, position: int, length: int) -> tuple[int, int]:
    while True:
        byte = source[position]
        position += 1
        length += byte
        if byte != 255:
            return length, position


def _repeat(output: bytearray, offset: int, length: int) -> None:
    """Append the bytes `offset` bytes before the end; source and copy may overlap."""
    start = len(output) - offset
    if offset == 0 or start < 0:
        raise Corrupt("a compressed block refers to data before its beginning")
    if offset >= length:
        output += output[start : start + length]
    else:
        pattern = bytes(output[start:])
        output += (pattern * (length // offset + 1))[:length]
