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
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (512 << 20, "512 MiB"), (5 << 40, "5 TiB")]
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.085, "85 ms"), (2.314, "2.31 s"), (250, "4 min 10 s"), (11100, "3 h 5 min")])
def test_durations_for_people(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
