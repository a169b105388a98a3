"""How versions of Debian packages are ordered. tests/tools/test_inspection.py asks dpkg the same."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from dayfly.image.inspection.versions import KEY, compare

VERSIONS = st.from_regex(r"([0-9]{1,3}:)?[0-9][A-Za-z0-9.+~-]{0,12}", fullmatch=True)
SORTED = ["0~~", "0~~a", "0~", "0", "0-1", "0a", "0a1", "0+", "0.1", "1.0~rc1", "1.0", "1.0-1~bpo1", "1.0-1", "1.0-1+b1"]
SORTED += ["1.0-1.1", "1.0-10", "1.0a-1", "1.0+dfsg-1", "1.2", "1.10", "1:0.1", "2:0"]


def test_known_order() -> None:
    assert all(compare(one, other) < 0 for one, other in pairwise(SORTED))


def test_the_same_in_other_words() -> None:
    for one, other in (("0:1.0", "1.0"), ("1.00", "1.0"), ("1.0-0", "1.0"), ("1.0-", "1.0"), ("1.a01", "1.a1"), (" 1.0 ", "1.0")):
        assert compare(one, other) == 0, one


def test_numbers_of_any_length() -> None:
    assert compare("9" * 10_000, "1" + "0" * 10_000) < 0


@given(VERSIONS, VERSIONS, VERSIONS)
def test_it_is_an_order(one: str, two: str, three: str) -> None:
    assert compare(one, two) == -compare(two, one)
    assert compare(one, one) == 0
    ordered = sorted((one, two, three), key=KEY)
    assert compare(ordered[0], ordered[2]) <= 0


@given(st.text(), st.text())
def test_any_text_can_be_compared(one: str, other: str) -> None:
    assert compare(one, other) == -compare(other, one)
