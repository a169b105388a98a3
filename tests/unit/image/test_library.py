"""A library on disk, as one process sees it."""

from __future__ import annotations

import errno
import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.image.examples import CONFIG, LAYERS

from dayfly.errors import Corrupt, NotFound, Refused
from dayfly.guest.boot import BootMode
from dayfly.image import blobs
from dayfly.image.layout import Index, Layout, read_index
from dayfly.image.library import Library, Source
from dayfly.image.manifest import INDEX_TYPE, ImageConfig, OperatingSystem, Role
from dayfly.image.origin import Origin, parse_origin
from dayfly.image.reference import LibraryKind, Name, parse, parse_name
from dayfly.image.search import Libraries
from dayfly.image.work import sweep, work_folder
from dayfly.settings import Settings

NAME = parse_name("debian:12")


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "library")


def other(number: int) -> dict[Role, Source]:
    return {**LAYERS, Role.ROOT: Source("erofs", b"another root %d" % number)}


def names(library: Library) -> list[str]:
    return [image.name for image in library.images()]


def blob_files(library: Library) -> set[str]:
    return {path.name for path in library.layout.blobs.iterdir()}


def test_an_image_comes_back_as_it_went_in(library: Library) -> None:
    digest = library.add(CONFIG, LAYERS, NAME)
    with library.open(parse("debian:12")) as image:
        assert image.digest == digest
        assert image.config == CONFIG
        assert image.library is LibraryKind.USER
        assert [(blob.form, os.pread(blob.file, 1 << 20, 0)) for blob in image.blobs] == [
            (source.form, source.content) for source in LAYERS.values()
        ]
        assert image.root.path.read_bytes() == LAYERS[Role.ROOT].content
    for blob in image.blobs:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(blob.file)


def test_the_same_image_has_the_same_digest_and_is_stored_once(library: Library, tmp_path: Path) -> None:
    first = library.add(CONFIG, LAYERS, NAME)
    before = blob_files(library)
    source = tmp_path / "root"
    content = LAYERS[Role.ROOT].content
    assert isinstance(content, bytes)
    source.write_bytes(content)
    assert library.add(CONFIG, {**LAYERS, Role.ROOT: Source("erofs", source)}, Name("debian", "again")) == first
    assert blob_files(library) == before
    assert names(library) == ["debian:12", "debian:again"]


def test_a_system_library_is_readable_by_all_whatever_the_umask_is(tmp_path: Path) -> None:
    library = Library(tmp_path / "system", LibraryKind.SYSTEM)
    before = os.umask(0o077)
    try:
        library.add(CONFIG, LAYERS, NAME)
    finally:
        os.umask(before)
    modes = {
        path.is_dir(): stat.S_IMODE(path.stat().st_mode)
        for path in (library.layout.folder, *library.layout.folder.rglob("[!.]*"))
    }
    assert modes == {True: 0o755, False: 0o644}


def test_a_filesystem_without_unnamed_files_will_do(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    original = os.open

    def without(path: str | Path, flags: int, *arguments: int, **others: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return original(path, flags, *arguments, **others)

    monkeypatch.setattr(os, "open", without)
    library.add(CONFIG, LAYERS, NAME)
    library.add(CONFIG, other(1), NAME)
    library.open(parse("debian:12")).close()
    assert not list(library.layout.folder.rglob(".draft*"))
    assert library.verify().bad == ()


def test_optional_layers_may_be_missing(library: Library) -> None:
    library.add(CONFIG, {role: LAYERS[role] for role in (Role.ROOT, Role.KERNEL)}, NAME)
    with library.open(parse("debian:12")) as image:
        assert (image.modules, image.boot_modules) == (None, None)


def test_an_image_that_could_not_be_read_back_is_not_added(library: Library) -> None:
    for config, layers in (
        (replace(CONFIG, default_user="No Body"), LAYERS),
        (CONFIG, {Role.ROOT: LAYERS[Role.ROOT]}),
        (CONFIG, {**LAYERS, Role.ROOT: Source("ext4", b"")}),
    ):
        with pytest.raises(Refused):
            library.add(config, layers, NAME)
    assert library.images() == []


def test_a_name_moves_to_the_newer_image_and_the_older_stays_by_digest(library: Library) -> None:
    old = library.add(CONFIG, LAYERS, NAME)
    new = library.add(CONFIG, other(1), NAME)
    assert [(image.name, image.digest) for image in library.images()] == [("debian:12", new), ("", old)]
    for text in (old, old[:19], f"debian@{old}"):
        with library.open(parse(text)) as image:
            assert image.digest == old
    assert library.add(CONFIG, LAYERS, NAME) == old
    assert {(image.name, image.digest) for image in library.images()} == {("debian:12", old), ("", new)}


def test_names_are_added_and_removed(library: Library) -> None:
    digest = library.add(CONFIG, LAYERS, NAME)
    assert library.tag(parse("debian:12"), Name("debian", "stable")) == digest
    assert names(library) == ["debian:12", "debian:stable"]
    assert library.remove(parse("debian:12")) == digest
    assert names(library) == ["debian:stable"]
    with pytest.raises(NotFound, match="no image debian:12 in the user library"):
        library.remove(parse("debian:12"))
    library.tag(parse("debian:stable"), NAME)
    library.remove(parse(digest[:20]))
    assert names(library) == []


def test_a_short_digest_must_mean_one_image(library: Library) -> None:
    first, second = "sha256:" + "a" * 64, "sha256:" + "a" * 63 + "b"
    library.create()
    manifests = [{"mediaType": "application/x", "digest": digest, "size": 1} for digest in (first, second)]
    library.layout.index.write_text(json.dumps({"schemaVersion": 2, "manifests": manifests}))
    with pytest.raises(Refused, match="beginning of 2 digests"):
        library.resolve(parse("sha256:" + "a" * 20))
    assert library.resolve(parse(first)).descriptor.digest == first


def test_a_library_that_is_not_there_is_empty(library: Library) -> None:
    assert library.images() == []
    assert library.verify().checked == 0
    assert library.collect().removed == ()
    with pytest.raises(NotFound):
        library.open(parse("debian:12"))
    with pytest.raises(NotFound):
        library.remove(parse("debian:12"))
    assert not library.layout.folder.exists()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("index.json", b"{", "not JSON"),
        ("index.json", b"[]", "not a JSON object"),
        ("index.json", b'{"schemaVersion":1}', "schemaVersion"),
        (
            "index.json",
            b'{"schemaVersion":2,"manifests":[{"mediaType":"a/b","digest":"sha256:../../x","size":1}]}',
            "not a sha256 digest",
        ),
        (
            "index.json",
            b'{"schemaVersion":2,"manifests":[{"mediaType":"a/b","digest":"sha512:00","size":1}]}',
            "not a sha256 digest",
        ),
        ("index.json", b'{"schemaVersion":2,"manifests":{}}', "not a list"),
        ("index.json", b" " * (16 * 1024**2 + 1), "larger than"),
        ("oci-layout", b'{"imageLayoutVersion":"2.0.0"}', "version '2.0.0'.*newer Dayfly"),
        ("oci-layout", b"", "not JSON"),
    ],
)
def test_a_broken_library_is_said_to_be_and_left_alone(library: Library, file: str, content: bytes, message: str) -> None:
    library.add(CONFIG, LAYERS, NAME)
    (library.layout.folder / file).write_bytes(content)
    for action in (
        library.images,
        lambda: library.open(parse("debian:12")),
        lambda: library.add(CONFIG, LAYERS, NAME),
        library.collect,
    ):
        with pytest.raises(Corrupt, match=message):
            action()
    assert (library.layout.folder / file).read_bytes() == content


def test_a_folder_with_an_index_but_no_marker_is_no_library(library: Library) -> None:
    library.layout.folder.mkdir()
    library.layout.index.write_text("{}")
    with pytest.raises(Corrupt, match="no file oci-layout"):
        library.add(CONFIG, LAYERS, NAME)


def damage(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


@pytest.mark.parametrize("role", list(LAYERS))
@pytest.mark.parametrize("how", ["truncated", "flipped", "missing", "a folder", "a link"])
def test_a_damaged_blob_is_found_when_it_is_opened(library: Library, role: Role, how: str) -> None:
    library.add(CONFIG, LAYERS, NAME)
    _, manifest, _ = library.inspect(parse("debian:12"))
    descriptor = manifest.find(role)
    assert descriptor is not None
    path = library.layout.blob(descriptor.digest)
    content = path.read_bytes()
    if how in ("missing", "a folder", "a link"):
        path.unlink()
        if how == "a folder":
            path.mkdir()
        elif how == "a link":
            path.symlink_to("/etc/passwd")
    else:
        damage(path, content[:-1] if how == "truncated" else bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(Corrupt) as caught:
        library.open(parse("debian:12"))
    assert str(path) in caught.value.message
    assert f"the {role} of debian:12" in caught.value.message
    assert caught.value.hint
    (bad,) = library.verify().bad
    assert (bad.digest, bad.path, bad.images) == (descriptor.digest, path, ("debian:12",))


def test_a_blob_that_was_damaged_is_mended_by_adding_the_image_again(library: Library) -> None:
    library.add(CONFIG, LAYERS, NAME)
    path = next(library.layout.blobs.iterdir())
    damage(path, b"x")
    library.add(CONFIG, LAYERS, NAME)
    assert library.verify().bad == ()
    assert not [path for path in library.layout.blobs.iterdir() if path.name.startswith(".")]


def test_a_checked_blob_is_not_read_again_until_it_changes(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    library.add(CONFIG, LAYERS, NAME)
    hashed: list[str] = []
    original = blobs.digest_of

    def counting(descriptor: int) -> str:
        hashed.append(original(descriptor))
        return hashed[-1]

    monkeypatch.setattr(blobs, "digest_of", counting)
    library.open(parse("debian:12")).close()
    assert hashed == []
    _, manifest, _ = library.inspect(parse("debian:12"))
    os.utime(library.layout.blob(manifest.layers[0].digest))
    library.open(parse("debian:12")).close()
    library.open(parse("debian:12")).close()
    assert hashed == [manifest.layers[0].digest]


def test_verify_tells_bad_blobs_and_who_uses_them(library: Library) -> None:
    library.add(CONFIG, LAYERS, NAME)
    library.add(CONFIG, other(1), Name("debian", "13"))
    stray = library.layout.blobs / ("0" * 64)
    stray.write_bytes(b"not zeroes")
    _, manifest, _ = library.inspect(parse("debian:12"))
    kernel = library.layout.blob(manifest.layers[1].digest)
    damage(kernel, b"bad")
    bad = {blob.path: blob for blob in library.verify().bad}
    assert set(bad) == {stray, kernel}
    assert bad[stray].images == ()
    assert bad[kernel].images == ("debian:12", "debian:13")
    assert {blob.path for blob in library.verify(parse("debian:13")).bad} == {kernel}


def test_verify_reports_a_manifest_that_is_garbage(library: Library) -> None:
    digest, size = library.add(CONFIG, LAYERS, NAME), 5
    damage(library.layout.blob(digest), b"junk!")
    (bad,) = library.verify(parse("debian:12")).bad
    assert (bad.digest, bad.images) == (digest, ("debian:12",))
    listed = library.images()[0]
    assert listed.config is None
    assert "manifest of debian:12 is damaged" in listed.problem
    assert size


def test_collect_removes_what_nothing_names(library: Library) -> None:
    library.add(CONFIG, LAYERS, NAME)
    before = blob_files(library)
    old = library.add(CONFIG, other(1), Name("debian", "13"))
    library.remove(parse("debian:13"))
    (library.layout.blobs / (".draft-123-" + "0" * 12)).write_bytes(b"left by a kill")
    (library.layout.folder / ".draft-7-0123456789ab").write_bytes(b"left by a kill")
    (library.layout.folder / "README").write_text("somebody's")
    result = library.collect()
    assert old in result.removed
    assert result.freed > 0
    assert blob_files(library) == before == {path.name for path in library.layout.verified.iterdir()}
    assert {path.name for path in library.layout.folder.iterdir()} == {".dayfly", "README", "blobs", "index.json", "oci-layout"}
    assert library.verify().bad == ()


def test_images_without_a_name_are_collected_when_asked_for(library: Library) -> None:
    old = library.add(CONFIG, LAYERS, NAME)
    library.add(CONFIG, other(1), NAME)
    assert library.collect().removed == ()
    assert old in library.collect(unnamed=True).removed
    assert names(library) == ["debian:12"]
    library.open(parse("debian:12")).close()


def test_nothing_is_collected_while_a_manifest_cannot_be_read(library: Library) -> None:
    digest = library.add(CONFIG, LAYERS, NAME)
    library.layout.blob(digest).unlink()
    before = blob_files(library)
    with pytest.raises(Corrupt, match=r"the blobs of debian:12 are not known.*image remove"):
        library.collect()
    assert blob_files(library) == before
    library.remove(parse(digest))
    library.collect()
    assert blob_files(library) == set()


def test_what_other_tools_keep_in_the_layout_stays(library: Library) -> None:
    digest = library.add(CONFIG, LAYERS, NAME)
    layer, layer_size = blobs.store(library.layout, b"a signature")
    empty, empty_size = blobs.store(library.layout, b"{}")
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": empty_size},
        "layers": [{"mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "digest": layer, "size": layer_size}],
        "subject": {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1},
    }
    inner, inner_size = blobs.store(library.layout, json.dumps(manifest).encode())
    nested = {
        "schemaVersion": 2,
        "mediaType": INDEX_TYPE,
        "manifests": [{"mediaType": manifest["mediaType"], "digest": inner, "size": inner_size}],
    }
    outer, outer_size = blobs.store(library.layout, json.dumps(nested).encode())
    tree = json.loads(library.layout.index.read_bytes())
    entry = {"mediaType": INDEX_TYPE, "digest": outer, "size": outer_size, "platform": {"os": "x"}, "urls": ["https://a"]}
    tree["manifests"].append(entry)
    tree["annotations"] = {"who": "another tool"}
    library.layout.index.write_text(json.dumps(tree))
    tree["manifests"][0]["size"] = (
        1  # the subject's size is wrong: that manifest cannot be followed, and is needed by its own entry
    )
    before = blob_files(library)
    library.add(CONFIG, other(1), Name("debian", "13"))
    library.remove(parse("debian:13"))
    with pytest.raises(Corrupt, match="are not known"):
        library.collect()
    manifest["subject"] = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "sha256:" + "0" * 64, "size": 1}
    inner, inner_size = blobs.store(library.layout, json.dumps(manifest).encode())
    nested["manifests"] = [{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": inner, "size": inner_size}]
    outer, outer_size = blobs.store(library.layout, json.dumps(nested).encode())
    tree = json.loads(library.layout.index.read_bytes())
    tree["manifests"] = [tree["manifests"][0], {**entry, "digest": outer, "size": outer_size}]
    library.layout.index.write_text(json.dumps(tree))
    library.collect(unnamed=True)
    kept = json.loads(library.layout.index.read_bytes())
    assert kept["annotations"] == {"who": "another tool"}
    assert kept["manifests"][1] == {**entry, "digest": outer, "size": outer_size}
    assert {digest.removeprefix("sha256:") for digest in (inner, outer, layer, empty)} <= blob_files(library)
    assert before
    problems = [image.problem for image in library.images() if not image.name]
    assert len(problems) == 1
    assert "not that of a Dayfly image" in problems[0]


def test_a_manifest_that_contains_itself_ends(library: Library) -> None:
    library.create()
    content = b"x" * 10
    digest, size = blobs.store(library.layout, content)
    library.layout.index.write_text(
        json.dumps({"schemaVersion": 2, "manifests": [{"mediaType": INDEX_TYPE, "digest": digest, "size": size}]})
    )
    with pytest.raises(Corrupt, match="not JSON"):
        library.collect()


def test_a_read_only_library_is_used_without_notes(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    library.add(CONFIG, LAYERS, NAME)
    for path in library.layout.verified.iterdir():
        path.unlink()

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("dayfly.files.write", refused)
    library.open(parse("debian:12")).close()
    assert list(library.layout.verified.iterdir()) == []


def test_writing_where_one_may_not_is_refused_with_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(tmp_path / "library", LibraryKind.SYSTEM)
    library.add(CONFIG, LAYERS, NAME)

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("dayfly.files.locked", refused)
    for action in (
        lambda: library.add(CONFIG, LAYERS, NAME),
        lambda: library.remove(parse("debian:12")),
        lambda: library.tag(parse("debian:12"), Name("x")),
        library.collect,
    ):
        with pytest.raises(Refused, match=r"system library .* cannot be changed.*administrator"):
            action()


def test_a_library_that_one_may_only_read_is_told_before_a_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(tmp_path / "library", LibraryKind.SYSTEM)
    library.create()
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(Refused, match=r"system library .* cannot be written to.*administrator"):
        library.create()


@pytest.fixture
def libraries(tmp_path: Path) -> Libraries:
    return Libraries(Settings(library_system=tmp_path / "system", library_user=tmp_path / "user"))


def test_the_systems_image_is_meant_where_both_have_the_name(libraries: Libraries) -> None:
    ours = libraries.system.add(CONFIG, LAYERS, NAME)
    assert "user/debian:12 for yours" in libraries.warning(NAME, LibraryKind.USER)
    assert libraries.warning(NAME, LibraryKind.SYSTEM) == libraries.warning(Name("other"), LibraryKind.USER) == ""
    with libraries.open("debian:12") as image:
        assert (image.digest, image.notice) == (ours, "")
    theirs = libraries.user.add(replace(CONFIG, boot=BootMode.AGENT), other(1), NAME)
    with libraries.open("debian:12") as image:
        assert (image.digest, image.library) == (ours, LibraryKind.SYSTEM)
        assert image.notice == "debian:12 is in both libraries: using the system library's; write user/debian:12 for yours"
    for text, digest in (("user/debian:12", theirs), ("system/debian:12", ours), (theirs, theirs), (f"debian@{theirs}", theirs)):
        with libraries.open(text) as image:
            assert (image.digest, image.notice) == (digest, "")
    assert [(image.library, image.name) for image in libraries.images()] == [("system", "debian:12"), ("user", "debian:12")]


def test_the_same_image_in_both_needs_no_notice(libraries: Libraries) -> None:
    libraries.system.add(CONFIG, LAYERS, NAME)
    libraries.user.add(CONFIG, LAYERS, NAME)
    assert libraries.open("debian:12").notice == ""


def test_an_image_is_opened_with_one_look_at_each_index(libraries: Libraries, monkeypatch: pytest.MonkeyPatch) -> None:
    libraries.user.add(CONFIG, LAYERS, NAME)
    libraries.system.add(CONFIG, LAYERS, NAME)
    read: list[Path] = []

    def reading(layout: Layout) -> Index:
        read.append(layout.folder)
        return read_index(layout)

    monkeypatch.setattr("dayfly.image.library.read_index", reading)
    libraries.open("debian:12")
    assert read == [libraries.system.layout.folder, libraries.user.layout.folder]


def test_what_no_library_has_is_not_found(libraries: Libraries) -> None:
    for text in ("debian:12", "user/debian:12", "system/debian:12", "sha256:" + "0" * 64):
        with pytest.raises(NotFound, match="there is no image"):
            libraries.open(text)


def test_work_folders_are_removed_and_those_in_use_are_not_swept(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[Path] = []
    monkeypatch.setattr("dayfly.image.work.remove_tree", removed.append)
    library.create()
    with work_folder(library.layout) as folder:
        assert folder.path.is_dir()
        outside = folder.outside(library.layout.folder)
        assert sweep(library.layout) == 0
    assert removed == [outside, folder.path]
    assert sweep(library.layout) == 1
    assert removed == [outside, folder.path] * 2


def test_a_link_out_of_a_work_folder_leads_only_to_its_own(
    library: Library, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    removed: list[Path] = []
    monkeypatch.setattr("dayfly.image.work.remove_tree", removed.append)
    library.create()
    (library.layout.work / "abc").mkdir()
    (library.layout.work / "abc/outside").symlink_to(tmp_path)
    assert sweep(library.layout) == 1
    assert removed == [library.layout.work / "abc"]


def test_where_an_image_came_from_is_noted_beside_its_name(tmp_path: Path) -> None:
    origin = Origin("docker://host/app:1", "sha256:" + "0" * 64, "2026-01-02T03:04:05Z")
    library = Library(tmp_path / "library")
    digest = library.add(CONFIG, LAYERS, Name("app", "1"), origin.annotations())
    assert library.add(CONFIG, LAYERS, Name("built", "1")) == digest
    library.tag(parse("app:1"), Name("app", "2"))
    found = {entry.name: parse_origin(entry.descriptor.annotations) for entry in library.index().entries}
    assert found == {"app:1": origin, "app:2": origin, "built:1": None}
    assert library.provenance(digest).origins == (origin.source,)


def test_an_image_without_a_note_is_local(tmp_path: Path) -> None:
    library = Library(tmp_path / "library")
    assert library.provenance(library.add(CONFIG, LAYERS, Name("built", "1"))).origins == ("local",)


def test_where_an_image_came_from_is_known_while_it_has_no_name(tmp_path: Path) -> None:
    library = Library(tmp_path / "library")
    digest = library.add(CONFIG, LAYERS, Name("app", "1"), Origin("docker://host/app:1").annotations())
    library.add(replace(CONFIG, size=CONFIG.size + 1), LAYERS, Name("app", "1"), Origin("docker://host/app:2").annotations())
    assert library.names(digest) == ()
    assert library.provenance(digest).origins == ("docker://host/app:1",)
    library.tag(parse(digest), Name("old", "1"))
    assert library.provenance(digest).origins == ("docker://host/app:1",)
    library.add(CONFIG, LAYERS, None, Origin("oci:/else").annotations())
    assert library.provenance(digest).origins == ("docker://host/app:1", "oci:/else")


def test_a_note_speaks_for_no_signed_list(tmp_path: Path) -> None:
    library = Library(tmp_path / "library")
    assert library.provenance(library.add(CONFIG, LAYERS, None, Origin("list:site").annotations())).origins == ("local",)


def test_what_could_not_be_read_back_is_not_noted(tmp_path: Path) -> None:
    library = Library(tmp_path / "library")
    with pytest.raises(Refused):
        library.add(CONFIG, LAYERS, Name("app", "1"), {"org.example": "two\nlines"})
    assert library.images() == []


DISK = ImageConfig(OperatingSystem("linux"), boot=BootMode.BIOS, size=9)


def test_a_whole_disk_is_opened_as_one(library: Library) -> None:
    library.add(DISK, {Role.DISK: Source("qcow2", b"a disk")}, NAME)
    with library.open(parse("debian:12")) as image:
        assert image.kernel is None
        assert [blob.form for blob in image.blobs] == ["qcow2"]
        assert image.root.path.read_bytes() == b"a disk"


@pytest.mark.parametrize(("config", "layers"), [(DISK, LAYERS), (CONFIG, {Role.DISK: Source("qcow2", b"a disk")})])
def test_an_image_that_boots_otherwise_than_its_layers_is_not_opened(
    library: Library, config: ImageConfig, layers: dict[Role, Source]
) -> None:
    library.add(config, layers, NAME)
    with pytest.raises(Refused, match="not the layers for it"):
        library.open(parse("debian:12"))
