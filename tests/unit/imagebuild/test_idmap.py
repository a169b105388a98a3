"""Maps of a user namespace: which ids of ours a container's owners become."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.errors import Refused
from dayfly.imagebuild.idmap import Extent, Owned, mapped

USER, ROOT = Owned(1000, 100_000), Owned(None, 100_000)


def outside(extents: tuple[Extent, ...]) -> dict[int, int]:
    return {first + at: first_outside + at for first, first_outside, count in extents for at in range(count)}


def test_an_ordinary_users_map() -> None:
    assert mapped({0, 1, 2, 70_000, 70_001, 4_000_000_000}, USER, 65536) == (
        (0, 1000, 1),
        (1, 100_000, 2),
        (70_000, 100_002, 2),
        (4_000_000_000, 100_004, 1),
    )


def test_roots_map() -> None:
    assert mapped({1, 70_000}, ROOT, 65536) == ((0, 100_000, 2), (70_000, 100_002, 1))


@given(st.sets(st.one_of(st.integers(0, 300), st.integers(0, 2**32 - 2)), max_size=60), st.sampled_from([USER, ROOT]))
def test_each_id_is_there_and_becomes_one_of_ours_that_no_other_becomes(ids: set[int], owned: Owned) -> None:
    found = outside(mapped(ids, owned, 65536))
    assert set(found) == {0, *ids}
    assert len(set(found.values())) == len(found)
    assert all(100_000 <= number < 165_536 or number == owned.own for number in found.values())
    assert found[0] == (1000 if owned is USER else 100_000)


def test_too_many_are_refused() -> None:
    with pytest.raises(Refused, match="too many users or groups"):
        mapped(set(range(0, 400, 2)), USER, 65536)
    with pytest.raises(Refused, match="too many users or groups"):
        mapped(set(range(20)), ROOT, 10)
