"""LZ4 blocks, those that are right and those that are made to do harm."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.errors import Corrupt
from dayfly.image.inspection.lz4 import decompress


def literals(content: bytes) -> bytes:
    """A block that repeats nothing."""
    if len(content) < 15:
        return bytes([len(content) << 4]) + content
    more = len(content) - 15
    return b"\xf0" + b"\xff" * (more // 255) + bytes([more % 255]) + content


@given(st.binary(max_size=2000))
def test_literals(content: bytes) -> None:
    assert decompress(literals(content), len(content)) == content


@given(st.binary(min_size=1, max_size=20), st.integers(4, 1000))
def test_repetition(pattern: bytes, length: int) -> None:
    more = length - 4
    head = len(pattern) << 4 if len(pattern) < 15 else 0xF0
    token = bytes([head | min(more, 15)]) + (bytes([len(pattern) - 15]) if len(pattern) >= 15 else b"")
    longer = b"\xff" * ((more - 15) // 255) + bytes([(more - 15) % 255]) if more >= 15 else b""
    block = token + pattern + len(pattern).to_bytes(2, "little") + longer + b"\x50abcde"
    expected = pattern + (pattern * length)[:length]
    assert decompress(block, len(expected) + 5) == expected + b"abcde"
    assert decompress(block, len(pattern) + 2) == expected[: len(pattern) + 2]


@given(st.binary(max_size=300), st.integers(0, 5000))
def test_any_bytes(block: bytes, size: int) -> None:
    with contextlib.suppress(Corrupt):
        assert len(decompress(block, size)) == size


@pytest.mark.parametrize(
    "block", [b"", b"\x10", b"\x04\x00\x00", b"\x10a\x02\x00\x00", b"\xf0" + b"\xff" * 200, b"\x1f\x61\x01\x00"]
)
def test_bad_blocks(block: bytes) -> None:
    with pytest.raises(Corrupt):
        decompress(block, 100)


def test_a_bomb_stays_small() -> None:
    block = b"\x1fa\x01\x00" + b"\xff" * 4000 + b"\x00"
    assert decompress(block, 100) == b"a" * 100
