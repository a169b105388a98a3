import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.guest.frames import OUTPUT_LIMIT, Decoder, Frame, FromGuest, ProtocolBroken, ToGuest, encode

SIZES = {
    FromGuest.HELLO: (8, 256),
    FromGuest.STAGE: (1, 1),
    FromGuest.FAILED: (4, 1024),
    FromGuest.STARTED: (4, 4),
    FromGuest.DATA: (1, OUTPUT_LIMIT),
    FromGuest.END: (0, 0),
    FromGuest.GRANT: (4, 4),
    FromGuest.CLOSED: (0, 0),
    FromGuest.EXITED: (48, 48),
}


def raw(kind: int, stream: int, payload: bytes, reserved: int = 0) -> bytes:
    return struct.pack("<BBHI", kind, stream, reserved, len(payload)) + payload


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    kind = draw(st.sampled_from(FromGuest))
    least, most = SIZES[kind]
    stream = draw(st.sampled_from([1, 2])) if kind in (FromGuest.DATA, FromGuest.END) else 0
    return Frame(kind, stream, draw(st.binary(min_size=least, max_size=min(most, 300))))


@given(st.lists(frames(), max_size=8), st.lists(st.integers(1, 50), min_size=1))
def test_frames_survive_any_cutting(sent: list[Frame], cuts: list[int]) -> None:
    content = b"".join(raw(frame.type, frame.stream, frame.payload) for frame in sent)
    decoder, got, at, turn = Decoder(), [], 0, 0
    while at < len(content):
        step = cuts[turn % len(cuts)]
        got += list(decoder.feed(content[at : at + step]))
        at, turn = at + step, turn + 1
    assert got == sent
    assert decoder.idle


@given(st.binary(max_size=400))
def test_garbage_is_frames_or_broken(garbage: bytes) -> None:
    decoder = Decoder()
    try:
        for frame in decoder.feed(garbage):
            least, most = SIZES[frame.type]
            assert least <= len(frame.payload) <= most
    except ProtocolBroken:
        return
    assert decoder._have <= OUTPUT_LIMIT + 8


@pytest.mark.parametrize(
    "content",
    [
        raw(0x00, 0, b""),
        raw(0x41, 0, b""),
        raw(0xFF, 0, b""),
        raw(FromGuest.DATA, 0, b"x"),
        raw(FromGuest.DATA, 3, b"x"),
        raw(FromGuest.DATA, 1, b""),
        raw(FromGuest.END, 1, b"x"),
        raw(FromGuest.STAGE, 1, b"\1"),
        raw(FromGuest.GRANT, 1, b"\0\0\0\0"),
        raw(FromGuest.EXITED, 0, b"\0" * 47),
        raw(FromGuest.HELLO, 0, b"DFLY"),
        raw(FromGuest.END, 1, b"", reserved=1),
        struct.pack("<BBHI", FromGuest.DATA, 1, 0, OUTPUT_LIMIT + 1),
        struct.pack("<BBHI", FromGuest.DATA, 1, 0, 2**32 - 1),
    ],
)
def test_what_no_guest_may_send(content: bytes) -> None:
    """Refused by the header alone: an oversized frame is never waited for."""
    with pytest.raises(ProtocolBroken):
        list(Decoder().feed(content[:8]))


def test_an_incomplete_frame_is_kept() -> None:
    decoder = Decoder()
    whole = raw(FromGuest.DATA, 1, b"abc")
    assert list(decoder.feed(whole[:-1])) == []
    assert not decoder.idle
    assert list(decoder.feed(whole[-1:])) == [Frame(FromGuest.DATA, 1, b"abc")]


def test_encode() -> None:
    assert encode(ToGuest.GRANT, b"\0\1\0\0", 1) == b"\x44\x01\0\0\x04\0\0\0\0\1\0\0"
