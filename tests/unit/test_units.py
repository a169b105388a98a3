import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.errors import Refused
from dayfly.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("512M", 512 << 20), ("2G", 2 << 30), ("1.5GiB", 3 << 29), ("10 kB", 10240), ("1t", 1 << 40)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1", "1X", "M", "1.2.3G", "1e9", "0.0001", "\uff19\uff19", "1 G 2"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(Refused):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("2d", 172800), ("1d1h1m1s", 90061)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "m", "1.5h", "-3", "10 m", "1m1h", "s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(Refused):
        parse_duration(text)


@given(st.text(max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (parse_size, parse_duration):
        try:
            assert parse(text) > 0
        except Refused:
            continue


@pytest.mark.parametrize(
    ("size", "text"),
    [
        *((0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (512 << 20, "512 MiB"), (5 << 40, "5 TiB")),
        *((1025 << 20, "1025 MiB"), (1000 << 20, "1000 MiB"), (2000 << 20, "2000 MiB"), (1025, "1025 B"), (16384, "16 KiB")),
        *((12_345 << 20, "12.1 GiB"), ((1 << 30) + 1, "1.0 GiB"), (3 << 50, "3072 TiB"), (123_456_789, "118 MiB")),
    ],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert format_size(size) == text


def test_two_sizes_that_are_compared_do_not_read_the_same() -> None:
    assert format_size((16 << 30) + 1, 16 << 30) == "17179869185 B"
    assert format_size((5 << 40) + 1, 5 << 40) == "5497558138881 B"
    assert format_size(1 << 40, 16 << 30) == "1 TiB"
    assert format_size(17 << 30, 16 << 30) == "17 GiB"
    assert format_size(16 << 30, 16 << 30) == "16 GiB"


@pytest.mark.parametrize(("seconds", "text"), [(0.085, "85 ms"), (2.314, "2.31 s"), (250, "4 min 10 s"), (11100, "3 h 5 min")])
def test_durations_for_people(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
