"""HTCondor's own ClassAd library on what Dayfly reads and writes of ClassAds."""

from __future__ import annotations

import classad2  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.batch.adapters.htcondor.classad import parse
from dayfly.batch.adapters.htcondor.setup import submit
from dayfly.batch.jobshell.policy import allowed
from dayfly.errors import Refused
from dayfly.settings import Settings

NAMES = st.from_regex(r"[a-z]{1,8}[0-9]", fullmatch=True)
VALUES = st.one_of(
    st.booleans(),
    st.integers(-(10**17), 10**17),
    st.floats(-1e9, 1e9).map(lambda number: round(number, 3)),
    st.text(st.characters(min_codepoint=32, max_codepoint=126)).filter(lambda text: "\\" not in text),
)


@given(st.dictionaries(NAMES, VALUES, max_size=8))
def test_what_htcondor_writes_is_read(values: dict[str, bool | int | float | str]) -> None:
    assert parse(classad2.ClassAd(values).printOld()) == pytest.approx(values)


def test_an_expression_and_a_list_are_no_values() -> None:
    ad = classad2.ClassAd({"VMImage": classad2.ExprTree('strcat("debian", ":12")'), "VMBoot": ["system"], "VMShare": "/a,/b"})
    assert parse(ad.printOld()) == {"vmshare": "/a,/b"}


@pytest.mark.parametrize(
    "image",
    ["debian:12", "system/debian:12", "user/mine:1", "debian:122", "xdebian:12", "alma:9", "gcc-12.2:1.0", "gcc-1292:1.0"],
)
def test_the_submit_requirement_allows_what_the_host_allows(image: str) -> None:
    settings = Settings(batch_images=("debian:1?", "user/*", "gcc-12.2:*"))
    requirement = next(line for line in submit(settings).splitlines() if line.startswith("SUBMIT_REQUIREMENT_DayflyImage ="))
    expression = classad2.ExprTree(requirement.partition(" = ")[2])
    try:
        allowed(image, settings.batch_images)
    except Refused:
        assert expression.eval(classad2.ClassAd({"VMImage": image})) is False
    else:
        assert expression.eval(classad2.ClassAd({"VMImage": image})) is True
    assert expression.eval(classad2.ClassAd({})) is True
