"""Archives that are whole are read as `tarfile` reads them, and of damaged ones nothing is left out without a word."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly import tar
from dayfly.errors import Refused
from dayfly.tar import Kind

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
Entry = tuple[tarfile.TarInfo, bytes]


def entry(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, **about: object) -> Entry:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    for attribute, value in about.items():
        setattr(info, attribute, value)
    return info, content


def packed(*entries: Entry, form: int = tarfile.PAX_FORMAT) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:", format=form, errors="surrogateescape") as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return target.getvalue()


def read(content: bytes, place: Path, *, marked: bool = False, limit: int = 1000) -> list[tar.Member]:
    path = place / "archive"
    path.write_bytes(content)
    with path.open("rb") as file:
        return list(tar.members(file, limit, marked=marked))


def content_of(archive: bytes, member: tar.Member) -> bytes:
    found = bytearray(member.size)
    for start, place, length in member.parts:
        found[start : start + length] = archive[place : place + length]
    return bytes(found)


def block(name: bytes, kind: bytes, size: int, *, magic: bytes = b"ustar\x0000", more: dict[int, bytes] | None = None) -> bytes:
    """A header."""
    raw = bytearray(512)
    pieces = {0: name, 100: b"0000644\0", 108: b"0000000\0", 116: b"0000000\0", 124: b"%011o\0" % size, 136: b"00000000005\0"}
    for at, piece in {**pieces, 156: kind, 257: magic, **(more or {})}.items():
        raw[at : at + len(piece)] = piece
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


def extended(*records: bytes) -> bytes:
    """An extended header with these records, KEY=VALUE."""
    lines = b""
    for record in records:
        length = len(record) + 3
        while length != len(b"%d %s\n" % (length, record)):
            length += 1
        lines += b"%d %s\n" % (length, record)
    return block(b"pax", b"x", len(lines)) + padded(lines)


END = bytes(1024)
FILE = block(b"a", b"0", 5) + padded(b"hello")
LATER = block(b"later", b"0", 3) + padded(b"end")
NAMES = st.one_of(
    st.sampled_from(["a", "b/c", "ä", "\udcff", "x" * 99, "x" * 100, "x" * 101, "d/" * 60 + "f", "n" * 250]),
    st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=20),
)
ENTRIES = st.one_of(
    st.builds(
        lambda name, content, mtime, uid, mode: entry(name, content, mtime=mtime, uid=uid, mode=mode),
        NAMES,
        st.binary(max_size=1200),
        st.integers(-(2**31), 2**33),
        st.sampled_from([0, 1000, 2**21, 2**31]),
        st.integers(0, 0o7777),
    ),
    st.builds(lambda name: entry(name, kind=tarfile.DIRTYPE), NAMES),
    st.builds(lambda name, target: entry(name, kind=tarfile.SYMTYPE, linkname=target), NAMES, NAMES),
    st.builds(lambda name, target: entry(name, kind=tarfile.LNKTYPE, linkname=target), NAMES, NAMES),
    st.builds(lambda name: entry(name, kind=tarfile.FIFOTYPE), NAMES),
    st.builds(lambda name: entry(name, kind=tarfile.CHRTYPE, devmajor=1, devminor=3), NAMES),
)
KINDS = {
    tarfile.REGTYPE: Kind.FILE,
    tarfile.DIRTYPE: Kind.FOLDER,
    tarfile.SYMTYPE: Kind.LINK,
    tarfile.LNKTYPE: Kind.HARD_LINK,
    tarfile.FIFOTYPE: Kind.FIFO,
    tarfile.CHRTYPE: Kind.DEVICE,
}


@given(st.lists(ENTRIES, max_size=6), st.sampled_from(FORMATS[1:]))
def test_whole_archives_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Entry], form: int
) -> None:
    archive = packed(*entries, form=form)
    found = read(archive, tmp_path_factory.mktemp("tar"), marked=True)
    assert [(one.name.rstrip("/"), one.kind, one.mode, one.uid, one.mtime, one.target) for one in found] == [
        (info.name, KINDS[info.type], info.mode, info.uid, int(info.mtime), info.linkname) for info, _ in entries
    ]
    assert [content_of(archive, one) for one in found] == [content for _, content in entries]


def flipped(archive: bytes, at: int, noise: int) -> bytes:
    at %= len(archive)
    return archive[:at] + bytes([archive[at] ^ noise]) + archive[at + 1 :]


DAMAGES: list[Callable[[bytes, int, int], bytes]] = [
    flipped,
    lambda archive, at, noise: archive[: at % len(archive)],
    lambda archive, at, noise: (
        archive[: at % (len(archive) // 512) * 512] + bytes(512) + archive[at % (len(archive) // 512) * 512 :]
    ),
    lambda archive, at, noise: archive[: at % len(archive)] + archive[at % len(archive) + noise :],
]


@given(
    st.lists(ENTRIES, min_size=1, max_size=4),
    st.sampled_from(FORMATS[1:]),
    st.sampled_from(DAMAGES),
    st.integers(0, 2**20),
    st.integers(1, 255),
)
def test_of_a_damaged_archive_nothing_is_left_out_without_a_word(
    tmp_path_factory: pytest.TempPathFactory,
    entries: list[Entry],
    form: int,
    damage: Callable[[bytes, int, int], bytes],
    at: int,
    noise: int,
) -> None:
    archive = packed(*entries, form=form)
    archive = archive[: archive.rstrip(b"\0").__len__() // 512 * 512 + 512 + 1024]  # without most of the padding
    place = tmp_path_factory.mktemp("tar")
    try:
        found = read(damage(archive, at, noise), place, marked=True)
    except Refused:
        return
    assert [(one.kind, one.size) for one in found] == [(KINDS[info.type], info.size) for info, _ in entries]


@given(st.binary(max_size=2048), st.lists(st.tuples(st.integers(0, 511), st.binary(min_size=1, max_size=12)), max_size=4))
def test_noise_is_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, changes: list[tuple[int, bytes]]
) -> None:
    """A header with anything in it, and a checksum that is right."""
    raw = bytearray(block(b"a", b"0", 5))
    for at, change in changes:
        raw[at : at + len(change)] = change
    del raw[512:]
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    for archive in (noise, bytes(raw) + noise):
        try:
            read(archive, tmp_path_factory.mktemp("tar"))
        except Refused:
            continue


@pytest.mark.parametrize(
    ("archive", "why"),
    [
        (flipped(FILE, 0, 1) + LATER + END, "wrong checksum"),
        (FILE + flipped(LATER, 148, 1) + END, "wrong checksum"),
        (FILE + LATER[:300], "in the middle of a header"),
        (FILE + bytes(512) + LATER + END, "a block of zeros"),
        (FILE + bytes(300), "in the middle of a header"),
        (FILE + bytes(512 + 100), "in the middle of its end marker"),
        (block(b"a", b"0", 700) + bytes(600), "in the middle of 'a'"),
        (block(b"a", b"0", 5) + b"hell", "in the middle of 'a'"),
        (block(b"a", b"L", 5) + b"hell", "in the middle of a header"),
        (block(b"a", b"L", 5) + padded(b"hello") + END, "after an extended header"),
        (extended(b"path=b"), "after an extended header"),
        (extended(b"path=b") + extended(b"path=c") + FILE, "two extended headers"),
        (block(b"p", b"x", 9) + padded(b"9 path=bc") + FILE, "cannot be read"),
        (block(b"p", b"x", 9) + padded(b"8 path=b\n") + FILE, "cannot be read"),
        (block(b"p", b"x", 14) + padded(b"9 path=b\n\0\0\0\0\0") + FILE, "cannot be read"),
        (block(b"p", b"x", 8) + padded(b"8 pathb\n") + FILE, "cannot be read"),
        (block(b"p", b"x", 8) + padded(b"path=bc\n") + FILE, "cannot be read"),
        (block(b"p", b"x", 10) + padded(b"10 path=b\n"[:9] + b"x") + FILE, "cannot be read"),
        (extended(b"path=a\0b") + FILE, "a NUL"),
        (extended(b"size=5x") + FILE, "an invalid number"),
        (extended(b"size=-5") + FILE, "a negative size"),
        (extended(b"uid=1.5") + FILE, "an invalid number"),
        (extended(b"mtime=soon") + FILE, "an invalid time"),
        (extended(b"size=9223372036854775807") + FILE, "in the middle of"),
        (extended(b"size=99999999999999999999") + FILE, "an invalid number"),
        (block(b"a", b"0", 0, more={124: b"12 4567\0"}) + END, "an invalid number"),
        (block(b"a", b"0", 0, more={124: b"\xff" * 12}) + END, "a negative size"),
        (block(b"a", b"0", 0, more={124: b"\x80" + b"\xff" * 11}) + END, "too large"),
        (block(b"a", b"x", 2**20 + 1) + bytes(2**20 + 512) + FILE, "a header of more than"),
        (block(b"a", b"V", 0) + END, "an unknown type"),
        (block(b"a/", b"0", 0) + END, "the name of a folder"),
        (block(b"g", b"g", 10) + padded(b"10 uid=12\n") + FILE, "some tools ignore"),
        (extended(b"path=b") + block(b"g", b"g", 10) + padded(b"10 abc=12\n") + FILE, "some tools ignore"),
    ],
)
def test_damage_is_told(tmp_path: Path, archive: bytes, why: str) -> None:
    with pytest.raises(Refused) as caught:
        read(archive, tmp_path)
    assert why in caught.value.message


def test_ends(tmp_path: Path) -> None:
    """With a marker, with half of one as old tools write it, or without, as umoci does; what is after a marker is nobody's."""
    for end in (END, END + bytes(9216), bytes(512), b"", END + b"what a tool has left behind" + FILE):
        assert [one.name for one in read(FILE + LATER + end, tmp_path)] == ["a", "later"]
    assert read(b"", tmp_path) == []
    assert len(read(FILE + END, tmp_path, marked=True)) == 1
    for end in (b"", bytes(512)):
        with pytest.raises(Refused, match="the end marker is missing"):
            read(FILE + end, tmp_path, marked=True)
    assert len(read(block(b"a", b"0", 5) + b"hello", tmp_path)) == 1  # all that the file has is there
    with pytest.raises(Refused, match="more than 1 entries"):
        read(FILE + LATER + END, tmp_path, limit=1)


def test_an_empty_record_says_nothing(tmp_path: Path) -> None:
    records = (b"size=", b"path=", b"mtime=", b"uid=", b"SCHILY.xattr.user.x=")
    first, second = read(extended(*records) + FILE + LATER + END, tmp_path)
    assert (first.name, first.size, first.mtime, first.uid, first.extended, second.name) == ("a", 5, 5, 0, {}, "later")


def test_an_extended_header_is_that_of_one_file(tmp_path: Path) -> None:
    records = (b"path=b", b"size=600", b"SCHILY.xattr.user.x=1\x002", b"comment=", b"comment=x=y")
    archive = extended(*records) + block(b"a", b"0", 0) + bytes(1024) + LATER + END
    first, second = read(archive, tmp_path)
    assert (first.name, first.size, dict(first.extended)) == ("b", 600, {"user.x": "1\x002"})
    assert (second.name, second.extended) == ("later", {})


def test_a_comment_for_all_files_is_passed_over(tmp_path: Path) -> None:
    assert [one.name for one in read(block(b"g", b"g", 14) + padded(b"14 comment=12\n") + FILE + END, tmp_path)] == ["a"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"5", 5),
        (b"5.999999999999", 5),
        (b"1700000000.9999999999", 1_700_000_000),
        (b"-5", -5),
        (b"-5.0", -5),
        (b"-5.5", -6),
        (b"-0.5", -1),
        (b"7.", 7),
    ],
)
def test_times_are_rounded_down(tmp_path: Path, text: bytes, seconds: int) -> None:
    assert read(extended(b"mtime=" + text) + FILE + END, tmp_path)[0].mtime == seconds


def test_names_of_old_forms(tmp_path: Path) -> None:
    old_folder = block(b"d/", b"\0", 0, magic=b"")
    with_prefix = block(b"f", b"0", 0, more={345: b"some/where"})
    gnu_times = block(b"g", b"0", 0, magic=b"ustar  \0", more={345: b"00000000005\x0000000000006\0"})
    old_go = block(b"h", b"0", 0, magic=b"ustar  \0", more={345: b"some/where"})
    star = block(b"i", b"0", 0, more={345: b"some/where", 476: b"00000000005", 508: b"tar\0"})
    found = read(old_folder + with_prefix + gnu_times + old_go + star + END, tmp_path)
    assert [one.name for one in found] == ["d/", "some/where/f", "g", "some/where/h", "some/where/i"]
    assert [one.kind for one in found] == [Kind.FOLDER, *[Kind.FILE] * 4]


SIGNED = block(b"\xff\xfe", b"0", 0)


def test_a_checksum_of_signed_bytes(tmp_path: Path) -> None:
    """As tools on some old systems reckoned it."""
    signed = bytearray(SIGNED)
    signed[148:156] = b" " * 8
    signed[148:156] = b"%06o\0 " % (sum(signed) - 2 * 256)
    assert [one.name for one in read(bytes(signed) + SIGNED + END, tmp_path)] == ["\udcff\udcfe"] * 2


MAP = [(0, 512), (4096, 1024), (9000, 100)]
STORED = b"a" * 512 + b"b" * 1024 + b"c" * 100
WHOLE = b"a" * 512 + bytes(4096 - 512) + b"b" * 1024 + bytes(9000 - 5120) + b"c" * 100 + bytes(900)
SIZE = len(WHOLE)


def old_gnu(parts: list[tuple[int, int]], size: int, stored: int, *, pax: bytes = b"") -> bytes:
    """A header of the old form; more than four parts are in a block after it."""
    fields = [b"%011o\0%011o\0" % part for part in parts]
    more = {386: b"".join(fields[:4]), 482: b"\1" if fields[4:] else b"\0", 483: b"%011o\0" % size}
    head = block(b"a", b"S", stored, magic=b"ustar  \0", more=more)
    return pax + head + (padded(b"".join(fields[4:])) if fields[4:] else b"")


def named(parts: list[tuple[int, int]], *about: bytes, stored: int = len(STORED), table: bytes = b"") -> bytes:
    records = (*about, b"GNU.sparse.name=a", *([b"size=%d" % stored] if stored > 0 else []))
    return extended(*records) + block(b"GNUSparseFile.0/a", b"0", max(stored, 0)) + table


def form_0_0(parts: list[tuple[int, int]], size: int) -> bytes:
    numbers = [one for start, length in parts for one in (b"GNU.sparse.offset=%d" % start, b"GNU.sparse.numbytes=%d" % length)]
    return named(parts, b"GNU.sparse.size=%d" % size, b"GNU.sparse.numblocks=%d" % len(parts), *numbers)


def form_0_1(parts: list[tuple[int, int]], size: int) -> bytes:
    text = b",".join(b"%d,%d" % part for part in parts)
    counted = b"GNU.sparse.numblocks=%d" % len(parts)
    version = (b"GNU.sparse.major=0", b"GNU.sparse.minor=1")
    return named(parts, *version, b"GNU.sparse.size=%d" % size, counted, b"GNU.sparse.map=" + text)


def form_1_0(parts: list[tuple[int, int]], size: int) -> bytes:
    table = padded(b"%d\n" % len(parts) + b"".join(b"%d\n%d\n" % part for part in parts))
    version = (b"GNU.sparse.major=1", b"GNU.sparse.minor=0", b"GNU.sparse.realsize=%d" % size)
    return named(parts, *version, stored=len(table) + sum(length for _, length in parts), table=table)


FORMS: dict[str, Callable[[list[tuple[int, int]], int], bytes]] = {
    "old": lambda parts, size: old_gnu(parts, size, sum(length for _, length in parts)),
    "old with a size record": lambda parts, size: old_gnu(parts, size, 0, pax=extended(b"size=%d" % sum(n for _, n in parts))),
    "0.0": form_0_0,
    "0.1": form_0_1,
    "1.0": form_1_0,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("more", [[], [(SIZE, 0)]])
def test_files_with_holes(tmp_path: Path, form: str, more: list[tuple[int, int]]) -> None:
    archive = FORMS[form]([*MAP, *more], SIZE) + padded(STORED) + LATER + END
    first, second = read(archive, tmp_path)
    assert (first.name, first.size, content_of(archive, first)) == ("a", SIZE, WHOLE)
    assert (second.name, content_of(archive, second)) == ("later", b"end")
    assert (first.whole, second.whole) == (None, (0, len(archive) - 1536, 3))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("parts", "size", "why"),
    [
        ([(0, 512), (4096, 1000), (9000, 124)], SIZE, "not whole blocks"),
        ([(0, 512), (100, 1024), (9000, 100)], SIZE, "an invalid map"),
        ([(0, 512), (4096, 1024), (9000, 100)], 9050, "an invalid map"),
    ],
)
def test_maps_that_lie(tmp_path: Path, form: str, parts: list[tuple[int, int]], size: int, why: str) -> None:
    with pytest.raises(Refused, match=why):
        read(FORMS[form](parts, size) + padded(STORED) + LATER + END, tmp_path)


def test_maps_that_do_not_fit_what_is_stored(tmp_path: Path) -> None:
    for parts in (MAP[:2], [*MAP[:2], (9000, 200)]):
        for archive in (
            old_gnu(parts, SIZE, len(STORED)),
            named(
                parts,
                b"GNU.sparse.size=%d" % SIZE,
                b"GNU.sparse.numblocks=%d" % len(parts),
                *[b"GNU.sparse.map=" + b",".join(b"%d,%d" % part for part in parts)],
            ),
        ):
            with pytest.raises(Refused, match="does not match"):
                read(archive + padded(STORED) + LATER + END, tmp_path)


@pytest.mark.parametrize(
    ("archive", "why"),
    [
        (named(MAP, b"GNU.sparse.major=2", b"GNU.sparse.minor=0", b"GNU.sparse.realsize=9"), "unknown format"),
        (named(MAP, b"GNU.sparse.map=0,512"), "unknown format"),
        (named(MAP, b"GNU.sparse.size=9", b"GNU.sparse.numblocks=2", b"GNU.sparse.map=0,512"), "damaged"),
        (named(MAP, b"GNU.sparse.size=9", b"GNU.sparse.numblocks=1", b"GNU.sparse.map=0,x"), "an invalid number"),
        (named(MAP, b"GNU.sparse.size=9", b"GNU.sparse.numbytes=5"), "damaged"),
        (block(b"a", b"S", 0), "unknown format"),
        (extended(b"GNU.sparse.size=5", b"GNU.sparse.numblocks=0") + block(b"d", b"5", 0), "with holes"),
        (old_gnu([(at * 512, 0) for at in range(30)], SIZE, 0)[:-1], "a map of holes"),
    ],
)
def test_maps_that_cannot_be_read(tmp_path: Path, archive: bytes, why: str) -> None:
    with pytest.raises(Refused, match=why):
        read(archive, tmp_path)


@given(st.sampled_from(sorted(FORMS)), st.integers(0, 2**16), st.integers(1, 255), st.sampled_from(DAMAGES))
def test_of_damaged_files_with_holes_nothing_is_left_out(
    tmp_path_factory: pytest.TempPathFactory,
    form: str,
    at: int,
    noise: int,
    damage: Callable[[bytes, int, int], bytes],
) -> None:
    whole = FORMS[form](MAP, SIZE) + padded(STORED) + LATER + END
    try:
        found = read(damage(whole, at, noise), tmp_path_factory.mktemp("tar"), marked=True)
    except Refused:
        return
    assert [one.name for one in found][1:] == ["later"]


def test_check(tmp_path: Path) -> None:
    for content, why in ((FILE, "end marker"), (FILE + LATER + END, ""), (flipped(FILE, 9, 1) + END, "checksum")):
        (tmp_path / "a").write_bytes(content)
        with (tmp_path / "a").open("rb") as file:
            if not why:
                tar.check(file, 10)
                continue
            with pytest.raises(Refused, match=why):
                tar.check(file, 10)
