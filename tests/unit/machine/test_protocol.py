import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.errors import Refused
from dayfly.guest.frames import ProtocolBroken
from dayfly.guest.protocol import (
    UNLIMITED,
    FailedStage,
    GuestIdentity,
    Hello,
    Limit,
    Link,
    Mount,
    Signals,
    Stage,
    StartProblem,
    StartRequest,
    WindowSize,
    parse_exited,
    parse_failed,
    parse_hello,
    parse_stage,
    printable,
)


def request(**changes: object) -> StartRequest:
    fields: dict[str, object] = {
        "arguments": (b"true",),
        "environment": (b"A=1", b"B=\xff"),
        "directory": b"/work",
        "identity": GuestIdentity(1000, 100, (100, 4), b"me:x:1000:100::/home/me:/bin/sh", (b"users:x:100:",)),
        "umask": 0o22,
        "limits": (Limit(7, 1024, UNLIMITED),),
        "terminal": None,
        "merged": False,
        "mounts": (Mount("share0", b"/work", True),),
        "hostname": "dayfly-x",
        "seed": b"s" * 64,
        "clock": 1,
        "network": "",
        "machine_id": "0" * 32,
    }
    return StartRequest(**(fields | changes))  # type: ignore[arg-type]


def fields_of(payload: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at < len(payload):
        tag, zero, length = struct.unpack_from("<HHI", payload, at)
        assert zero == 0
        found.append((tag, payload[at + 8 : at + 8 + length]))
        at += 8 + length
    return found


def test_start_says_everything() -> None:
    network = {"network": "10.0.2.15/24 10.0.2.2 10.0.2.3", "mac": "52:54:00:AB:cd:0f"}
    callers = {"signals": Signals(0x1001, 1 << 63), "closed": frozenset({0, 2}), "links": (Link("/home", "net/home"),)}
    fields = dict(fields_of(request(terminal=WindowSize(24, 80), merged=True, **network, **callers).encode()))
    assert set(fields) == set(range(1, 21))
    assert fields[4] == struct.pack("<4I", 1000, 100, 100, 4)
    assert fields[8] == struct.pack("<IIQQ", 7, 0, 1024, UNLIMITED)
    assert fields[9] == struct.pack("<4H", 24, 80, 0, 0)
    assert fields[11] == b"\1\0\0\0share0\0/work"
    assert fields[17] == bytes.fromhex("525400abcd0f")
    assert fields[18] == struct.pack("<QQ", 0x1001, 1 << 63)
    assert fields[19] == b"\5"
    assert fields[20] == b"/home\0net/home"


@pytest.mark.parametrize(
    "mac",
    ["52:54:00:ab:cd", "52:54:00:ab:cd:0g", "52-54-00-ab-cd-0f", "53:54:00:ab:cd:0f", "00:00:00:00:00:00", "525400abcd0f\n"],
)
def test_start_with_no_address_of_one_interface(mac: str) -> None:
    with pytest.raises(Refused, match="is not the address of"):
        request(mac=mac).encode()


def test_start_leaves_out_what_is_not() -> None:
    tags = {tag for tag, _ in fields_of(request(identity=GuestIdentity(0, 0)).encode())}
    assert tags == {1, 2, 3, 4, 7, 8, 11, 12, 13, 14, 16, 18}


@given(st.lists(st.binary(max_size=100), min_size=1, max_size=20))
def test_arguments_keep_their_order_and_bytes(arguments: list[bytes]) -> None:
    payload = request(arguments=tuple(arguments)).encode()
    assert [value for tag, value in fields_of(payload) if tag == 1] == arguments


def test_too_much_to_start_with() -> None:
    with pytest.raises(Refused, match="more than"):
        request(arguments=(b"x" * 5_000_000,)).encode()


def test_hello() -> None:
    assert parse_hello(b"DFLY\3\0\0\0001.0\0006.1.0") == Hello("1.0", "6.1.0")


@pytest.mark.parametrize("payload", [b"DFLY\1\0\0\0", b"XFLY\3\0\0\0"])
def test_another_version_is_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolBroken, match="version"):
        parse_hello(payload)


def test_failed() -> None:
    failed = parse_failed(b"\5\1\2\0nosuch: command not found\x1b[2J")
    assert (failed.stage, failed.problem, failed.errno) == (FailedStage.START, StartProblem.NOT_FOUND, 2)
    assert failed.text == "nosuch: command not found?[2J"


@pytest.mark.parametrize("payload", [b"\0\0\0\0", b"\6\0\0\0", b"\5\x09\0\0"])
def test_unknown_failures(payload: bytes) -> None:
    with pytest.raises(ProtocolBroken):
        parse_failed(payload)


def test_stage() -> None:
    assert parse_stage(b"\2") is Stage.READY
    with pytest.raises(ProtocolBroken):
        parse_stage(b"\3")


def test_exited() -> None:
    exited = parse_exited(struct.pack("<BBHIQQQQQ", 1, 15, 0, 2, 1_500_000, 250_000, 4096, 10, 20))
    assert (exited.status, exited.signal, exited.oom_kills) == (143, 15, 2)
    assert (exited.cpu_user, exited.cpu_system, exited.peak_memory, exited.bytes_out, exited.bytes_in) == (
        1.5,
        0.25,
        4096,
        10,
        20,
    )


@pytest.mark.parametrize(("kind", "value"), [(2, 0), (1, 0), (1, 65)])
def test_impossible_ends(kind: int, value: int) -> None:
    with pytest.raises(ProtocolBroken):
        parse_exited(struct.pack("<BBHIQQQQQ", kind, value, 0, 0, 0, 0, 0, 0, 0))


@given(st.binary(min_size=48, max_size=48))
def test_any_end_is_a_shells_status_or_broken(payload: bytes) -> None:
    try:
        assert 0 <= parse_exited(payload).status <= 255
    except ProtocolBroken:
        return


@given(st.binary(max_size=100))
def test_a_guests_text_moves_no_cursor(text: bytes) -> None:
    assert printable(text).isprintable()
