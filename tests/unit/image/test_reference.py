"""What names an image, and what does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.errors import Refused
from dayfly.image.reference import LibraryKind, Name, Reference, is_digest, parse, parse_name

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("debian", Reference(Name("debian", "latest"))),
        ("debian:12", Reference(Name("debian", "12"))),
        ("debian:12-system", Reference(Name("debian", "12-system"))),
        ("my_site.el7-gpu:2026.1_RC", Reference(Name("my_site.el7-gpu", "2026.1_RC"))),
        ("system/debian:12", Reference(Name("debian", "12"), "", LibraryKind.SYSTEM)),
        ("user/debian", Reference(Name("debian", "latest"), "", LibraryKind.USER)),
        (DIGEST, Reference(None, DIGEST)),
        (DIGEST[:19], Reference(None, DIGEST[:19])),
        (f"user/{DIGEST}", Reference(None, DIGEST, LibraryKind.USER)),
        (f"debian@{DIGEST}", Reference(Name("debian", "latest"), DIGEST)),
        (f"debian:12@{DIGEST}", None),
    ],
)
def test_references(text: str, expected: Reference | None) -> None:
    if expected is None:
        assert parse(text) == Reference(Name("debian", "12"), DIGEST)
    else:
        assert parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "debian:",
        "Debian",
        "-debian",
        "debian-",
        "a..b",
        "../etc/passwd",
        "/debian",
        "site/debian",
        "system/user/debian",
        "debian:12:13",
        "debian:" + "x" * 129,
        "x" * 129,
        "x" * 10_000,
        "sha256",
        "sha256:latest",
        "sha256:" + "0" * 11,
        "sha256:" + "0" * 65,
        "sha256:" + "A" * 64,
        "sha256:../../../../etc",
        "debian@sha256:" + "0" * 63,
        "debian@" + DIGEST[:30],
        "debian@12",
        "debian\n",
        "debian:12\n",
        "debian :12",
        "débian",
        "debian:\u0661",
        "debian:\ud800",
        "de\0bian",
    ],
)
def test_what_is_refused_comes_with_a_hint_and_on_one_line(text: str) -> None:
    with pytest.raises(Refused) as caught:
        parse(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 2500
    assert caught.value.hint or len(text) > 500


@given(st.text())
def test_anything_is_read_or_refused(text: str) -> None:
    try:
        reference = parse(text)
    except Refused:
        return
    assert parse(str(reference)) == reference


_names = st.from_regex(r"\A[a-z0-9]{1,20}([._-][a-z0-9]{1,20}){0,2}\Z").filter(lambda text: text != "sha256")
_tags = st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9._-]{0,20}\Z")


@given(
    st.builds(Name, _names, _tags),
    st.sampled_from(["", DIGEST]),
    st.sampled_from([None, *LibraryKind]),
)
def test_a_reference_survives_being_written(name: Name, digest: str, library: LibraryKind | None) -> None:
    reference = Reference(name, digest, library)
    again = parse(str(reference))
    assert (again.digest, again.library) == (digest, library)
    assert again.name is not None
    assert again.name.name == name.name
    assert digest or again == reference
    assert parse_name(str(name)) == name


def test_only_whole_lower_case_digests_are_digests() -> None:
    assert is_digest(DIGEST)
    assert not any(map(is_digest, [DIGEST.upper(), DIGEST[:-1], DIGEST + "\n", "sha256:" + "/" * 64, None, 3, b"x"]))
