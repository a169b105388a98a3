import pytest

from dayfly.batch.jobshell.request import Request, parse, variables
from dayfly.errors import Refused


def test_words() -> None:
    words = ["image=debian:12", "share=/a,/b:ro", "environment=7", "memory_mib=600", "--", "sh", "-c", "--", "x=1"]
    assert parse(words) == Request(("sh", "-c", "--", "x=1"), "debian:12", share="/a,/b:ro", environment=7, memory_mib=600)


def test_a_command_may_end_as_the_words_do() -> None:
    assert parse(["--", "a", "--"]).command == ("a", "--")


@pytest.mark.parametrize("words", [[], ["--"], ["image=a"], ["what=1", "--", "a"], ["memory_mib=-1", "--", "a"], ["image", "--"]])
def test_words_of_another_version(words: list[str]) -> None:
    with pytest.raises(Refused):
        parse(words)


@pytest.mark.parametrize(
    ("request_", "asks"),
    [
        (Request(("a",)), False),
        (Request(("a",), image="debian:12"), True),
        (Request(("a",), image="none"), False),
        (Request(("a",), image="none", boot="agent"), False),
        (Request(("a",), network="nat"), True),
    ],
)
def test_who_asks(request_: Request, asks: bool) -> None:
    assert request_.asks is asks


def test_variables() -> None:
    block = b"A=1\0B=x=y\nz\0\0no variable\0=none\0A=2\0\xff=\xfe\0"
    assert variables(block) == {b"A": b"1", b"B": b"x=y\nz", b"\xff": b"\xfe"}
