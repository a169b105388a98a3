"""What is asked of a machine for its files, and what is taken of them."""

from __future__ import annotations

import os
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.errors import Refused
from dayfly.guest.frames import Stream
from dayfly.provision import capture

PATHS = st.lists(st.text("ab/.", min_size=1).map(lambda text: os.path.normpath(f"/{text}")), max_size=4)


@given(PATHS)
def test_folders_for_shares_are_those_and_all_above_them(shares: list[str]) -> None:
    expected = {str(place).strip("/") for share in shares for place in (PurePosixPath(share), *PurePosixPath(share).parents)}
    assert capture.made_for(shares) == sorted(expected - {""})


def test_an_archive_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "LIMIT", 10)
    file = os.memfd_create("archive")
    archive = capture._Archive(file)
    archive.take(Stream.STDOUT, b"12345")
    archive.take(Stream.STDERR, b"x" * 100)
    archive.take(Stream.STDOUT, b"67890")
    with pytest.raises(Refused, match="its files are larger than the limit of 10 B"):
        archive.take(Stream.STDOUT, b"1")
    assert os.pread(file, 100, 0) == b"1234567890"
    os.close(file)


def test_the_last_line_of_a_complaint_is_safe_to_print() -> None:
    archive = capture._Archive(-1)
    archive.take(Stream.STDERR, b"first\n" + b"y" * 10_000 + b"\n\x1b[2J/etc/x: input/output error\n\n")
    assert archive.said == "?[2J/etc/x: input/output error"
    assert len(archive._said) == 4096
