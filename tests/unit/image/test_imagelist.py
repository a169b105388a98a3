"""Signed lists: what is read of them, how versions compare, and what a library keeps. No signature is judged here."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.image.examples import CONFIG, LAYERS

from dayfly.errors import Refused
from dayfly.image import archive
from dayfly.image.library import Library
from dayfly.image.reference import Name, parse
from dayfly.image.trust import imagelist, state
from dayfly.image.trust.fetch import absolute
from dayfly.image.trust.imagelist import ImageList, ListedImage, compare, one_line, render
from dayfly.image.trust.lookup import provenance_of
from dayfly.image.trust.provenance import Provenance
from dayfly.image.trust.state import Accepted, Entry, State, Subscription
from dayfly.units import format_time

DIGEST = "sha256:" + "ab" * 32
words = st.text('abcdefghij 0123:/.-é"\\', max_size=20).map(lambda text: " ".join(text.split()))
identifiers = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
seconds = st.integers(0, 4_000_000_000)
versions = st.lists(st.integers(0, 10**12), min_size=1, max_size=5).map(lambda numbers: ".".join(map(str, numbers)))
names = st.sampled_from(["/C=CH/O=Test/CN=Ada", "/DC=org/DC=x/CN=host/node.example", "/CN=Ada/emailAddress=a@b"])
listed = st.builds(
    ListedImage,
    identifier=identifiers,
    title=words,
    uri=st.just("https://x.example/a.tar"),
    version=words,
    size=st.integers(0, imagelist.IMAGE_LIMIT),
    checksums=st.sampled_from([{}, {"sha512": "a" * 128}, {"sha256": "b" * 64, "sha512": "c" * 128}]),
    format=st.sampled_from(["dayfly-oci", "qcow2", ""]),
    description=words,
    os=words,
    os_version=words,
    expires=seconds,
)
lists = st.builds(
    ImageList,
    identifier=identifiers,
    version=versions,
    created=st.integers(0, 2_000_000_000),
    expires=st.integers(2_000_000_001, 4_000_000_000),
    endorser=names,
    authority=names,
    images=st.lists(listed, max_size=4, unique_by=lambda image: image.identifier).map(tuple),
    title=words,
    description=words,
    source=words,
    uri=words,
    email=words,
    creator=words,
)


@given(lists)
def test_a_list_that_is_written_is_read_as_it_was(images: ImageList) -> None:
    assert imagelist.parse(render(images)) == images


MEMBERS = [
    *("hv:imagelist", "hv:endorser", "hv:x509", "hv:images", "hv:image", "hv:dn", "hv:ca", "hv:size", "hv:uri", "hv:version"),
    *("dc:identifier", "dc:date:created", "dc:date:expires", "sl:checksum:sha512", "dc:title", "hv:format"),
]
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.just("2026-01-01T00:00:00Z"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(MEMBERS), inner, max_size=6),
)


@given(anything)
def test_whatever_is_signed_it_is_a_list_or_refused(value: Any) -> None:
    try:
        found = imagelist.parse(json.dumps(value).encode())
    except Refused:
        return
    assert found.expires > found.created


@given(lists, st.data())
def test_a_list_with_something_else_in_it_is_a_list_or_refused(images: ImageList, data: st.DataObject) -> None:
    value = json.loads(render(images))
    place = value["hv:imagelist"]
    while True:
        key = data.draw(st.sampled_from(sorted(place)))
        if not isinstance(place[key], dict) or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(anything)
    try:
        imagelist.parse(json.dumps(value).encode())
    except Refused:
        return


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(Refused):
        imagelist.parse(content)


@pytest.mark.parametrize(
    ("one", "other", "sign"),
    [
        ("1", "2", -1),
        ("1.9", "1.10", -1),
        ("1.2", "1.2.0", 0),
        ("1-2", "1.2", 0),
        ("20260101", "9", 1),
        ("1.0.1", "1", 1),
        ("007", "7", 0),
    ],
)
def test_versions(one: str, other: str, sign: int) -> None:
    assert compare(one, other) == sign
    assert compare(other, one) == -sign


@given(versions, versions, versions)
def test_versions_have_an_order(a: str, b: str, c: str) -> None:
    assert compare(a, a) == 0
    assert compare(a, b) == -compare(b, a)
    if compare(a, b) <= 0 and compare(b, c) <= 0:
        assert compare(a, c) <= 0


def test_names_in_other_forms() -> None:
    ada = "/C=CH/CN=Ada L\\xC3\\xB6ve/emailAddress=a@b.c"
    assert one_line(" /C=CH/CN=Ada Löve/Email=a@b.c ") == ada == one_line(ada)
    assert one_line("/CN=a/E=b") == "/CN=a/emailAddress=b"


def test_times() -> None:
    assert format_time(0) == "1970-01-01T00:00:00Z"


entries = st.builds(
    Entry,
    list=st.sampled_from(["a", "b-2"]),
    identifier=identifiers,
    title=words,
    checksum=words,
    version=versions,
    origin=words,
    endorser=names,
    entered=seconds,
    until=seconds,
    stopped=words,
)
accepted = st.builds(
    Accepted,
    version=versions,
    created=seconds,
    until=seconds,
    updated=seconds,
    endorser=names,
    issuer=names,
    signed=st.just("a" * 64),
    content=st.just("b" * 64),
    title=words,
    watched=st.dictionaries(words, words, max_size=3),
)
texts = st.lists(words, max_size=3).map(tuple)
subscriptions = st.builds(
    Subscription,
    place=words,
    identifier=words,
    endorsers=texts,
    issuer=words,
    authorities=texts,
    revocations=texts,
    accepted=accepted,
)
states = st.builds(
    State,
    lists=st.dictionaries(st.sampled_from(["a", "b-2"]), subscriptions),
    images=st.dictionaries(st.sampled_from([DIGEST, "sha256:" + "0" * 64]), st.lists(entries, max_size=3).map(tuple)),
    local=st.just((DIGEST,)) | st.just(()),
    keys=st.dictionaries(st.sampled_from(["a", "k"]), st.text(max_size=9)),
    signed=st.dictionaries(st.just(DIGEST), texts),
)


@given(states)
def test_a_state_that_is_written_is_read_as_it_was(known: State) -> None:
    assert state.parse(state.render(known)) == known


@given(states, st.data())
def test_a_state_that_was_damaged_is_a_state_or_refused(known: State, data: st.DataObject) -> None:
    content = bytearray(state.render(known))
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        state.parse(bytes(content))
    except Refused:
        return


def test_a_library_without_subscriptions_asks_nobody(tmp_path: Path) -> None:
    library = Library(tmp_path)
    digest = library.add(CONFIG, LAYERS, Name("a"))
    assert provenance_of(library.layout, digest, "a") == Provenance(("local",), ())
    with library.open(parse("a")) as image:
        assert image.provenance == Provenance()


def test_fingerprints_change_with_what_is_in_a_folder(tmp_path: Path) -> None:
    seen = {state.fingerprint(str(tmp_path / "none")), state.fingerprint(str(tmp_path))}
    (tmp_path / "a.r0").write_text("one")
    seen.add(state.fingerprint(str(tmp_path)))
    (tmp_path / "a.r0").write_text("other")
    seen.add(state.fingerprint(str(tmp_path)))
    (tmp_path / "b.r0").write_text("")
    seen.add(state.fingerprint(str(tmp_path)))
    assert len(seen) == 5


@pytest.mark.parametrize(
    ("place", "kept"),
    [
        ("https://x.example/a", "https://x.example/a"),
        ("file:///a/b", "file:///a/b"),
        ("file://localhost/a", "file:///a"),
        ("/a b/c", "file:///a%20b/c"),
        ("/a/../b", "file:///b"),
    ],
)
def test_addresses(place: str, kept: str) -> None:
    assert absolute(place) == kept


@pytest.mark.parametrize("place", ["http://x/a", "ftp://x/a", "file://host/a", "https://", "https://[", "data://x"])
def test_addresses_that_are_none(place: str) -> None:
    with pytest.raises(Refused):
        absolute(place)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("packed")
    library = Library(folder / "library")
    library.add(CONFIG, LAYERS, Name("one", "1"))
    archive.pack(library, parse("one:1"), folder / "one.tar")
    return (folder / "one.tar").read_bytes()


def test_an_archive_is_an_image_again(packed: bytes, tmp_path: Path) -> None:
    path = tmp_path / "one.tar"
    path.write_bytes(packed)
    found = archive.examine(path, Name("two", "2"))
    library = Library(tmp_path / "library")
    assert library.enter([found], lambda _: False) == []
    with library.open(parse("two:2")) as image:
        assert (image.digest, image.config) == (found.digest, CONFIG)
    assert library.verify().bad == ()
    assert library.enter([archive.examine(path, Name("two", "2"))], lambda _: False) == []
    assert len(library.images()) == 1


@given(st.data())
def test_a_damaged_archive_is_refused_or_another_image(
    packed: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(packed)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "a.tar"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        found = archive.examine(path, None)
    except Refused:
        return
    for digest, part in found.contents.items():
        assert archive._digest(part) == digest


def test_sizes_in_an_archive_do_not_lead_out_of_it(tmp_path: Path) -> None:
    member = tarfile.TarInfo("index.json")
    member.size = 1 << 60
    (tmp_path / "a.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + b"{}")
    with pytest.raises(Refused, match="truncated"):
        archive.examine(tmp_path / "a.tar", None)
