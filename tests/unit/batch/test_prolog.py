from hypothesis import given
from hypothesis import strategies as st

from dayfly.batch.jobshell.prolog import Said, parse


def test_what_a_task_prolog_says() -> None:
    lines = [
        "export A=b c=d ",
        "export  SPACED =x",
        "export nothing",
        "unset GONE",
        "print  two  words",
        "unset X=1",
        "exported=1",
    ]
    said = "\n".join([*lines, "print", "export E="]).encode()
    assert parse(said) == Said({b"A": b"b c=d ", b"SPACED": b"x", b"GONE": None, b"E": b""}, b" two  words\n\n")
    assert parse(b"export A=1\nunset A\nexport B=\0x\nprint \0") == Said({b"A": None}, b"")


@given(st.binary())
def test_no_output_is_too_odd(output: bytes) -> None:
    said = parse(output)
    assert all(name and b"=" not in name and b"\0" not in name + (value or b"") for name, value in said.variables.items())
