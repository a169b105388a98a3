"""What QEMU tells on its events monitor: messages cut from bytes, however they come, and nothing but messages."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.errors import Refused
from dayfly.machine.events import Event, Listener, Refusal, beforehand

GREETING = b'{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": []}}\r\n'
RESUME = b'{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "RESUME"}\r\n'
SHUTDOWN = b'{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-panic"}}\r\n'
ERROR = b'{"error": {"class": "GenericError", "desc": "no such state"}}\r\n'
ALL = GREETING + b'{"return": {}}\r\n' + RESUME + SHUTDOWN + ERROR


@given(st.lists(st.integers(1, 40)))
def test_messages_come_whole_however_the_bytes_do(sizes: list[int]) -> None:
    listener, rest, heard = Listener(), ALL, []
    for size in sizes:
        heard += list(listener.feed(rest[:size]))
        rest = rest[size:]
    heard += list(listener.feed(rest))
    assert heard == [Event("RESUME", ""), Event("SHUTDOWN", "guest-panic"), Refusal("no such state")]
    assert listener.version == "7.2.22"


@given(st.binary())
def test_what_is_no_qmp_is_refused_or_says_nothing(junk: bytes) -> None:
    try:
        assert all(isinstance(message, Event | Refusal) for message in Listener().feed(junk + b"\n"))
    except Refused:
        return


@pytest.mark.parametrize("text", [b"[1]\n", b"hello\n", b"{\n", b'"QMP"\n', b"[" * 100_000 + b"\n"])
def test_refused(text: bytes) -> None:
    with pytest.raises(Refused):
        list(Listener().feed(text))


def test_a_line_without_end() -> None:
    with pytest.raises(Refused):
        list(Listener().feed(bytes(2 << 20)))


def test_what_is_said_beforehand() -> None:
    assert [json.loads(line)["execute"] for line in beforehand(None).splitlines()] == ["qmp_capabilities"]
    said = [json.loads(line) for line in beforehand(7).splitlines()]
    assert [command["execute"] for command in said] == ["qmp_capabilities", "migrate-set-capabilities", "migrate-incoming"]
    assert said[-1]["arguments"] == {"uri": "fd:7"}
