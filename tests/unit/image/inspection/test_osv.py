"""Which known problems packages have."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.errors import DayflyError, NotFound, Refused
from dayfly.image.fields import Fields
from dayfly.image.inspection import osv
from dayfly.image.inspection.packages import Package

OPENSSL = Package("libssl3", "3.0.11-1~deb12u2+b1", "amd64", "openssl", "3.0.11-1~deb12u2")


def record(*events: dict[str, str], ecosystem: str = "Debian:12", **more: object) -> dict[str, object]:
    affected = {
        "package": {"ecosystem": ecosystem, "name": "openssl"},
        "ranges": [{"type": "ECOSYSTEM", "events": list(events)}],
    }
    return {"id": "DSA-1-1", "summary": "a\x1b[2J problem", "upstream": ["CVE-2024-1"], "affected": [affected], **more}


def found(*records: dict[str, object]) -> list[osv.Vulnerability]:
    return osv.find([OPENSSL], "12", iter([Fields.of(one, "a record") for one in records]))


def test_a_problem() -> None:
    (one,) = found(record({"introduced": "0"}, {"fixed": "3.0.13-1~deb12u1"}))
    assert one == osv.Vulnerability(
        "DSA-1-1", ("CVE-2024-1",), "openssl", "3.0.11-1~deb12u2", "3.0.13-1~deb12u1", r"a\x1b[2J problem"
    )


def test_ranges() -> None:
    assert not found(record({"introduced": "0"}, {"fixed": "3.0.11-1~deb12u2"}))
    assert found(record({"introduced": "0"}))[0].fixed == ""
    assert not found(record({"introduced": "3.1"}))
    assert found(record({"introduced": "0"}, {"last_affected": "3.0.11-1~deb12u2"}))
    assert not found(record({"introduced": "0"}, {"last_affected": "3.0.11-1~deb12u1"}))
    again = ({"fixed": "4"}, {"introduced": "3.0.11-1"}, {"fixed": "2"}, {"introduced": "0"})
    assert not found(record(*again))
    assert found(record({"fixed": "4"}, {"introduced": "3"}, {"fixed": "2"}, {"introduced": "0"}))[0].fixed == "4"


def test_versions_that_are_named() -> None:
    affected = {"package": {"ecosystem": "Debian", "name": "openssl"}, "versions": ["3.0.11-1~deb12u2"]}
    assert found({"id": "X-1", "affected": [affected]})


def test_others() -> None:
    assert not found(record({"introduced": "0"}, ecosystem="Debian:11"))
    assert not found(record({"introduced": "0"}, ecosystem="PyPI"))
    assert not found(record({"introduced": "0"}, withdrawn="2024-01-01T00:00:00Z"))
    assert found(record({"introduced": "0"}, ecosystem="Debian"))


@pytest.mark.parametrize("wrong", [{"id": 5}, {"affected": {}}, {"affected": [1]}, {"id": "\x1b"}])
def test_records_that_are_none(wrong: dict[str, object]) -> None:
    with pytest.raises(Refused, match="a record"):
        found(record({"introduced": "0"}) | wrong)


JSON = st.recursive(st.none() | st.text(max_size=3) | st.integers(), lambda inner: st.lists(inner, max_size=3), max_leaves=5)


@given(st.dictionaries(st.sampled_from(["package", "ranges", "versions", "introduced", "fixed"]), JSON, max_size=4), JSON)
def test_hostile_records(affected: dict[str, object], other: object) -> None:
    ranges = {"type": "ECOSYSTEM", "events": [other, affected]}
    for inner in (affected, {"package": {"ecosystem": "Debian", "name": "openssl"}, "ranges": [ranges]}):
        with contextlib.suppress(DayflyError):
            assert all(one.id == "X" for one in found({"id": "X", "aliases": [other], "affected": [inner]}))


def test_files(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        list(osv.records(tmp_path / "none"))
    with pytest.raises(Refused, match=r"no \*\.json file"):
        list(osv.records(tmp_path))
    (tmp_path / "one.json").write_text(json.dumps(record()))
    (tmp_path / "README").write_text("no JSON")
    assert [one.text("id") for one in osv.records(tmp_path)] == ["DSA-1-1"]
    assert len(list(osv.records(tmp_path / "one.json"))) == 1
    (tmp_path / "two.json").write_text("[" * 100_000)
    with pytest.raises(Refused, match="not JSON"):
        list(osv.records(tmp_path))
