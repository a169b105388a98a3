"""`dayfly.values` beside the standard library: nobody who uses a class of the one or the other can tell."""

import dataclasses
from collections.abc import Mapping
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly import values


def define(library: object) -> SimpleNamespace:
    """The same classes by one library or the other."""
    made = library.dataclass  # type: ignore[attr-defined]
    field = library.field  # type: ignore[attr-defined]

    @made(frozen=True)
    class Inner:
        text: str = ""

    @made(frozen=True)
    class Frozen:
        number: int
        inner: Inner
        several: tuple[Inner, ...] = ()
        by_name: Mapping[str, object] = field(default_factory=dict)

        @property
        def twice(self) -> int:
            return self.number * 2

    @made()
    class Loose:
        number: int

    return SimpleNamespace(Inner=Inner, Frozen=Frozen, Loose=Loose)


OURS, THEIRS = define(values), define(dataclasses)
INTEGERS = st.integers(-3, 3)


def both(number: int, text: str) -> list[object]:
    return [
        library.Frozen(number, library.Inner(text), several=(library.Inner("a"),), by_name={"x": library.Inner("b")})
        for library in (OURS, THEIRS)
    ]


@given(INTEGERS, st.text(), INTEGERS, st.text())
def test_they_are_equal_for_the_same(number: int, text: str, other: int, another: str) -> None:
    ours, theirs = both(number, text)
    ours_too, theirs_too = both(other, another)
    assert (ours == ours_too) is (theirs == theirs_too)
    assert (ours != ours_too) is (theirs != theirs_too)
    assert ours != theirs


@given(INTEGERS, st.text())
def test_what_the_standard_library_makes_of_them(number: int, text: str) -> None:
    ours, theirs = both(number, text)
    assert values.asdict(ours) == dataclasses.asdict(ours) == dataclasses.asdict(theirs)  # type: ignore[call-overload]
    assert values.replace(ours, number=9) == dataclasses.replace(ours, number=9)  # type: ignore[type-var]
    assert [field.name for field in dataclasses.fields(ours)] == [field.name for field in dataclasses.fields(theirs)]  # type: ignore[arg-type]
    assert dataclasses.is_dataclass(ours)
    assert repr(ours) == repr(theirs)


def test_hashes_are_by_content() -> None:
    assert hash(OURS.Inner("a")) == hash(OURS.Inner("a"))
    assert {OURS.Inner("a"), OURS.Inner("a")} == {OURS.Inner("a")}
    for library in (OURS, THEIRS):
        with pytest.raises(TypeError, match="unhashable"):
            hash(library.Loose(1))


def test_defaults_are_made_anew() -> None:
    one, other = OURS.Frozen(1, OURS.Inner()), OURS.Frozen(1, OURS.Inner())
    assert one.by_name == {}
    assert one.by_name is not other.by_name
    assert one.twice == 2


@pytest.mark.parametrize("library", [OURS, THEIRS])
def test_errors(library: SimpleNamespace) -> None:
    inner = library.Inner()
    with pytest.raises(TypeError):
        library.Frozen(1)
    with pytest.raises(TypeError):
        library.Frozen(1, inner, (), {}, 5)
    with pytest.raises(TypeError):
        library.Frozen(1, inner, number=2)
    with pytest.raises(TypeError):
        library.Frozen(1, inner, other=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        inner.text = "b"
    with pytest.raises(dataclasses.FrozenInstanceError):
        del inner.text
    loose = library.Loose(1)
    loose.number = 2
    assert loose == library.Loose(2)


@pytest.mark.parametrize("library", [values, dataclasses])
def test_a_field_without_a_default_after_one_with(library: object) -> None:
    with pytest.raises(TypeError):

        @library.dataclass(frozen=True)  # type: ignore[attr-defined]
        class Wrong:
            first: int = 0
            second: int
