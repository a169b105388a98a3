"""What a user writes to mean a container, what containers say of themselves, and how their layers are packed."""

from __future__ import annotations

import contextlib
import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.framework.containers import OCI, Layout, config, digest, docker_archive, file, folder, layout, link, packed, tar

from dayfly.errors import Corrupt, DayflyError, NotFound, Refused
from dayfly.imagebuild.containerimage import layouts
from dayfly.imagebuild.containerimage.furnish import operating_system
from dayfly.imagebuild.containerimage.manifest import Descriptor, Manifest, parse_config, parse_manifest
from dayfly.imagebuild.containerimage.source import Transport, default_name, parse
from dayfly.imagebuild.containerimage.tree import Limits
from dayfly.imagebuild.containerimage.unpack import Blob, unpack
from dayfly.imagebuild.skopeo import Access

ZEROS = "sha256:" + "0" * 64
LIMITS = Limits(size=1 << 20, layers=8)


@pytest.mark.parametrize(
    ("text", "repository", "tag", "digest"),
    [
        ("docker://host/name", "host/name", "", ""),
        ("docker://host:5000/a/b/c:1.2_x", "host:5000/a/b/c", "1.2_x", ""),
        (f"docker://127.0.0.1:5000/a@{ZEROS}", "127.0.0.1:5000/a", "", ZEROS),
        (f"docker://[::1]:5000/a:t@{ZEROS}", "[::1]:5000/a", "t", ZEROS),
        ("docker://alpine:3", "alpine", "3", ""),
    ],
)
def test_registries(text: str, repository: str, tag: str, digest: str) -> None:
    source = parse(text)
    assert (source.transport, source.repository, source.tag, source.digest) == (Transport.REGISTRY, repository, tag, digest)
    assert str(source) == text


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "debian:12",
            "docker:",
            "docker://",
            "docker:host/name",
            "docker:///name",
            "docker://host/Name",
            "docker://host/a b",
        ),
        *("docker://host/a:", "docker://host/a:-", "docker://host/a@sha256:12", "docker://host/../a", "docker://host/a --x"),
        *("docker://user:word@host/a", "http://host/a", "oci:", "oci::tag", "docker-archive:", "docker-daemon:a", "dir:/x"),
        *("docker://" + "a" * 2000, "oci:/a\nb", "oci:/a\x1b:b", "oci:/a\udcff", "docker-archive:\0"),
    ],
)
def test_what_names_no_container(text: str) -> None:
    with pytest.raises(Refused) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("repository", "host"),
    [("h.org/a", "h.org"), ("h:1/a", "h:1"), ("localhost/a", "localhost"), ("a/b", "docker.io"), ("a", "docker.io")],
)
def test_hosts(repository: str, host: str) -> None:
    assert parse(f"docker://{repository}").host == host


def test_paths(tmp_path: Path) -> None:
    assert (parse("oci:/a/b:c:d").path, parse("oci:/a/b:c:d").tag) == (Path("/a/b"), "c:d")
    (tmp_path / "a:b").mkdir()
    assert parse(f"oci:{tmp_path}/a:b").path == tmp_path / "a:b"
    assert parse("docker-archive:x.tar").path == Path.cwd() / "x.tar"


@pytest.mark.parametrize(
    ("text", "found", "name"),
    [
        ("docker://h:1/x/python:3.11", "", "python:3.11"),
        (f"docker://h/x/python@{ZEROS}", "", "python:latest"),
        ("oci:/tmp/lay:v1", "v1", "lay:v1"),
        ("oci:/tmp/Lay", "", "lay:latest"),
        ("oci:/tmp/lay:x", "docker.io/library/python:3.11", "python:3.11"),
        ("docker-archive:/tmp/x.tar", "site/app:1", "app:1"),
        ("docker-archive:/tmp/x.tar.gz", "", "x:latest"),
    ],
)
def test_what_an_image_is_called(text: str, found: str, name: str) -> None:
    assert str(default_name(parse(text), found)) == name


def test_a_name_that_cannot_be_made_is_asked_for() -> None:
    with pytest.raises(Refused, match="no image name") as caught:
        default_name(parse("oci:/tmp/-x-"), "")
    assert "NAME:TAG" in caught.value.hint


def manifest(**changes: Any) -> bytes:
    layer = {"mediaType": f"{OCI}.layer.v1.tar+gzip", "digest": ZEROS, "size": 5}
    whole = {"schemaVersion": 2, "config": {**layer, "mediaType": f"{OCI}.config.v1+json"}, "layers": [layer]}
    return json.dumps(whole | changes).encode()


def layer_of(**changes: Any) -> dict[str, Any]:
    return {"layers": [{"mediaType": f"{OCI}.layer.v1.tar+gzip", "digest": ZEROS, "size": 5} | changes]}


def test_a_manifest() -> None:
    parsed = parse_manifest(manifest(), "m", 8)
    assert isinstance(parsed, Manifest)
    assert parsed.layers == (Descriptor(f"{OCI}.layer.v1.tar+gzip", ZEROS, 5),)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (manifest(schemaVersion=1), "schema 1"),
        (manifest(mediaType="text/html"), "not a container image's"),
        (manifest(**layer_of(mediaType="application/x-unknown")), "not a container image's layer"),
        (manifest(**layer_of(mediaType=f"{OCI}.layer.v1.tar+xz")), "not a container image's layer"),
        (manifest(**layer_of(mediaType=f"{OCI}.layer.nondistributable.v1.tar+gzip")), "only an address"),
        (manifest(**layer_of(mediaType="application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")), "only an address"),
        (manifest(**layer_of(urls=["file:///etc/passwd"])), "only an address"),
        (manifest(**layer_of(digest="sha512:" + "0" * 128)), "not a sha256 digest"),
        (manifest(**layer_of(digest="sha256:../../etc/passwd")), "not a sha256 digest"),
        (manifest(**layer_of(size=-1)), "whole number"),
        (manifest(**layer_of(size=1 << 60)), "whole number"),
        (manifest(layers=[{}] * 9), "at most 8 elements"),
        (manifest(config=None), "not a JSON object"),
        (
            manifest(config={"mediaType": "application/vnd.oci.empty.v1+json", "digest": ZEROS, "size": 2}),
            "not that of a container",
        ),
    ],
)
def test_manifests_that_are_refused(content: bytes, why: str) -> None:
    with pytest.raises(Refused, match=why) as caught:
        parse_manifest(content, "the manifest", 8)
    assert "\n" not in str(caught.value)


def described(system: str, machine: str, size: int = 1) -> dict[str, Any]:
    platform = {"os": system, "architecture": machine}
    return {"mediaType": f"{OCI}.manifest.v1+json", "digest": ZEROS, "size": size, "platform": platform}


def test_an_index_leads_to_this_platform() -> None:
    listed = [described("linux", "arm64"), described("linux", "amd64", 7), described("windows", "amd64")]
    assert parse_manifest(manifest(manifests=listed, mediaType=f"{OCI}.index.v1+json"), "m", 8) == Descriptor(
        f"{OCI}.manifest.v1+json", ZEROS, 7
    )


def test_an_index_without_this_platform_says_what_there_is() -> None:
    listed = [described("linux", "arm64"), described("windows", "amd64"), described("unknown", "unknown")]
    with pytest.raises(Refused, match="nothing for linux/amd64") as caught:
        parse_manifest(manifest(manifests=listed, mediaType=f"{OCI}.index.v1+json"), "m", 8)
    assert caught.value.hint == "it has linux/arm64, windows/amd64"


def test_a_config() -> None:
    run = {
        "Env": ["PATH=/app:/bin", "LINES=a\nb", "odd.name=1"],
        "Entrypoint": ["/bin/sh", "-c"],
        "Cmd": ["echo a\necho b"],
        "User": "app:app",
        "WorkingDir": "/app",
        "Labels": {"a": "b", "several": "x\ny"},
    }
    parsed = parse_config(config([b""], run), "c")
    assert parsed.environment == {"PATH": "/app:/bin", "LINES": "a\nb"}
    assert (parsed.entrypoint, parsed.command) == (("/bin/sh", "-c"), ("echo a\necho b",))
    assert (parsed.user, parsed.directory, parsed.labels) == ("app:app", "/app", {"a": "b"})
    assert parsed.created == "2026-01-02T03:04:05Z"
    assert parsed.diff_ids == (digest(b""),)


def test_a_config_that_says_nothing() -> None:
    parsed = parse_config(config([], created="0001-01-01T00:00:00Z").replace(b'"config": {}', b'"config": null'), "c")
    assert (parsed.environment, parsed.entrypoint, parsed.created) == ({}, (), "1970-01-01T00:00:00Z")
    assert parsed.directory == "/"  # as podman and docker start it


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (config([], architecture="arm64"), "linux/arm64"),
        (config([], os="windows"), "windows/amd64"),
        (config([], {"Env": ["A=\0"]}), "a value that is not text"),
        (config([], {"Cmd": ["\ud800"]}), "a value that is not text"),
        (config([], {"Cmd": ["x" * 200_000]}), "a value that is not text"),
        (config([], {"Cmd": "sh -c x"}), r"config\.Cmd is a string; it must be a list of words"),
        (config([], {"Entrypoint": "sh"}), r"config\.Entrypoint is a string"),
        (config([], {"Cmd": {}}), "not a list"),
        (config([], {"WorkingDir": "app"}), r"WorkingDir is 'app', but must be an absolute path"),
        (config([], {"WorkingDir": "/app/../.."}), "must be an absolute path"),
        (config([], rootfs={"diff_ids": ["md5:0"]}), "values that are not sha256"),
    ],
)
def test_configs_that_are_refused(content: bytes, why: str) -> None:
    with pytest.raises(Refused, match=why):
        parse_config(content, "the config")


def test_what_an_image_says_of_its_system() -> None:
    assert operating_system('ID=alpine\nVERSION_ID=3.20\nPRETTY_NAME="Alpine Linux v3.20"\n').id == "alpine"
    assert operating_system("").id == "linux"
    assert operating_system('ID="\x1b[31m"\n').id == "linux"


def blob(tmp_path: Path, content: bytes, digest: str = "") -> Blob:
    path = tmp_path / "blob"
    path.write_bytes(b"before" + content + b"after")
    return Blob(path, 6, len(content), digest)


LAYER = tar(file("a", b"x" * 10_000))


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lambda data: packed(data[:9000]) + packed(data[9000:]) + bytes(512)])
def test_layers_are_unpacked(tmp_path: Path, pack: Any) -> None:
    content = pack(LAYER)
    target = tmp_path / "target"
    size = unpack(blob(tmp_path, content, digest(content)), target, limit=1 << 20, diff_id=digest(LAYER), what="layer 1")
    assert (size, target.read_bytes()) == (len(LAYER), LAYER)


def zstd_header(*, window: int = 0, content: bytes = b"", dictionary: bytes = b"") -> bytes:
    """A frame's header (RFC 8878, section 3.1.1.1): with a window, or with its content's size in the place of that."""
    flags = (0, 0, 1, 0, 2, 0, 0, 0, 3)[len(content)] << 6 | (0, 1, 2, 0, 3)[len(dictionary)] | (0x20 if content else 0)
    return b"\x28\xb5\x2f\xfd" + bytes([flags]) + (b"" if content else bytes([window])) + dictionary + content


@pytest.mark.parametrize(
    ("header", "window"),
    [
        (zstd_header(window=21 << 3), "2 GiB"),
        (zstd_header(window=19 << 3 | 1), "576 MiB"),
        (zstd_header(content=(3 << 30).to_bytes(4, "little")), "3 GiB"),
        (zstd_header(content=((512 << 20) + 1).to_bytes(8, "little"), dictionary=b"abcd"), "536870913 B"),
    ],
)
def test_windows_of_zstd_that_are_too_large(tmp_path: Path, header: bytes, window: str) -> None:
    with pytest.raises(Refused) as caught:
        unpack(blob(tmp_path, header + bytes(99)), tmp_path / "target", limit=1 << 20, diff_id="", what="layer 1")
    assert caught.value.message == f"layer 1 is compressed by zstd with a window of {window}; the limit is 512 MiB"


@pytest.mark.parametrize(
    ("content", "named", "unpacked", "kind", "why"),
    [
        (packed(LAYER), ZEROS, "", Corrupt, "does not match its digest"),
        (packed(LAYER), "", ZEROS, Corrupt, "does not match the digest in the container image's config"),
        (packed(LAYER)[:-20], "", "", Refused, "is truncated"),
        (packed(LAYER)[:50] + b"\xff" * 50 + packed(LAYER)[100:], "", "", Refused, "damaged"),
        (packed(bytes(2 << 20)), "", "", Refused, "left of the limit"),
        (packed(LAYER) + b"rubbish", "", "", Refused, "damaged"),
        (b"\xfd7zXZ\0rest", "", "", Refused, "compressed with xz"),
        (b"BZh9", "", "", Refused, "compressed with bzip2"),
    ],
)
def test_layers_that_are_refused(
    tmp_path: Path, content: bytes, named: str, unpacked: str, kind: type[DayflyError], why: str
) -> None:
    with pytest.raises(kind, match=why):
        unpack(blob(tmp_path, content, named), tmp_path / "target", limit=1 << 20, diff_id=unpacked, what="layer 1")


def test_a_layer_that_is_shorter_than_it_says(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(b"short")
    with pytest.raises(Corrupt, match="95 bytes too short"):
        unpack(Blob(path, 0, 100), tmp_path / "target", limit=1 << 20, diff_id="", what="layer 1")


def test_a_bomb_is_given_up_at_the_limit(tmp_path: Path) -> None:
    """A gigabyte of zeros, of which no more than the limit and a chunk is ever there."""
    stream = zlib.compressobj(9, wbits=31)
    first = stream.compress(bytes(1 << 20)) + stream.flush(zlib.Z_FULL_FLUSH)
    again = stream.compress(bytes(1 << 20)) + stream.flush(zlib.Z_FULL_FLUSH)  # the same bytes whatever was before
    content = first + again * 1023 + stream.flush()
    target = tmp_path / "target"
    with pytest.raises(Refused, match="left of the limit"):
        unpack(blob(tmp_path, content), target, limit=1 << 20, diff_id="", what="layer 1")
    assert target.stat().st_size <= 1 << 20


def test_a_layout(tmp_path: Path) -> None:
    made = layout(tmp_path / "lay", LAYER, tag="v1")
    assert layouts.in_layout(made.place, "v1", LIMITS).layers[0].digest == digest(packed(LAYER))
    assert layouts.in_layout(made.place, "", LIMITS).name == "v1"
    made.add([LAYER, tar()], "v2")
    assert len(layouts.in_layout(made.place, "v2", LIMITS).layers) == 2
    with pytest.raises(Refused, match="has 2 container images") as caught:
        layouts.in_layout(made.place, "", LIMITS)
    assert "v1, v2" in caught.value.hint
    with pytest.raises(NotFound, match="no container image v3"):
        layouts.in_layout(made.place, "v3", LIMITS)


def damage(made: Layout, digest: str, content: bytes) -> None:
    (made.place / "blobs/sha256" / digest.removeprefix("sha256:")).write_bytes(content)


def test_layouts_that_are_none_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="not an OCI image layout"):
        layouts.in_layout(tmp_path, "", LIMITS)
    made = Layout(tmp_path / "lay")
    with pytest.raises(NotFound, match="no container image in"):
        layouts.in_layout(made.place, "", LIMITS)
    found = made.add([LAYER])
    path = made.place / "blobs/sha256" / digest(packed(LAYER)).removeprefix("sha256:")
    path.write_bytes(b"short")
    with pytest.raises(Corrupt, match="5 bytes instead of"):
        layouts.in_layout(made.place, "", LIMITS)
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(Refused, match="not a regular file"):
        layouts.in_layout(made.place, "", LIMITS)
    path.unlink()
    with pytest.raises(NotFound, match="layer 1 is missing"):
        layouts.in_layout(made.place, "", LIMITS)
    size = (made.place / "blobs/sha256" / found.removeprefix("sha256:")).stat().st_size
    damage(made, found, b" " * size)
    with pytest.raises(Corrupt, match="does not match its digest"):
        layouts.in_layout(made.place, "", LIMITS)


def test_a_config_for_other_layers_is_refused(tmp_path: Path) -> None:
    made = layout(tmp_path / "lay", LAYER, whole_config=config([LAYER, LAYER]))
    with pytest.raises(Refused, match="1 layers, but its config has 2"):
        layouts.in_layout(made.place, "", LIMITS)


def test_indexes_that_lead_to_each_other_end(tmp_path: Path) -> None:
    made = Layout(tmp_path / "lay")
    made.add_index([])
    inner = made.listed[0]
    for _ in range(6):
        made.add_index([{**inner, "platform": {"os": "linux", "architecture": "amd64"}}], "deep")
        inner = made.listed.pop()
    made.listed = [inner]
    made.index()
    with pytest.raises(Refused, match="indexes deep"):
        layouts.in_layout(made.place, "", LIMITS)


def test_names_that_cannot_be_shown_are_not(tmp_path: Path) -> None:
    made = layout(tmp_path / "lay", LAYER, tag="bad\x1b[31m")
    made.add([LAYER, LAYER], "good")
    with pytest.raises(NotFound) as caught:
        layouts.in_layout(made.place, "other", LIMITS)
    assert caught.value.hint == "it has: good"


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from([ZEROS, "linux", "amd64", f"{OCI}.config.v1+json"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["schemaVersion", "manifests", "config", "layers", "mediaType", "digest", "size", "platform", "rootfs", "Env"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(_JSON)
def test_whatever_json_says_it_is_read_or_refused(value: Any) -> None:
    for content in (
        json.dumps(value).encode(),
        manifest(**value) if isinstance(value, dict) else b"{",
        config([], {"Env": value}),
    ):
        for read in (lambda text: parse_manifest(text, "m", 8), lambda text: parse_config(text, "c")):
            with contextlib.suppress(Refused):
                read(content)


def test_an_archive_of_a_layout(tmp_path: Path) -> None:
    made = layout(tmp_path / "lay", LAYER, tag="v1")
    members = [file(str(path.relative_to(made.place)), path.read_bytes()) for path in made.place.rglob("*") if path.is_file()]
    for name, content in (("plain.tar", tar(*members)), ("packed.tar.gz", packed(tar(*members)))):
        (tmp_path / name).write_bytes(content)
        work = tmp_path / f"work-{name}"
        work.mkdir()
        assert layouts.in_layout_archive(tmp_path / name, "v1", LIMITS, work).digest == made.listed[0]["digest"]


@pytest.mark.parametrize("pack", [bytes, packed])
def test_an_archive_of_docker_save(tmp_path: Path, pack: Any) -> None:
    path = docker_archive(tmp_path / "saved.tar", [LAYER, tar(file("b"))], ["h/site/app:1"], pack=pack, run={"Cmd": ["x"]})
    for name in ("", "app:1", "h/site/app:1"):
        found = layouts.in_docker_archive(path, name, LIMITS, tmp_path)
        assert (found.name, found.config.command, len(found.layers)) == ("h/site/app:1", ("x",), 2)
    with pytest.raises(NotFound, match="no container image other:1"):
        layouts.in_docker_archive(path, "other:1", LIMITS, tmp_path)


def test_links_in_an_archive_stay_in_it(tmp_path: Path) -> None:
    """skopeo writes each layer once, and links to it; a link that leads elsewhere is as good as none."""
    listed = json.dumps([{"Config": "c.json", "RepoTags": None, "Layers": ["id/layer.tar", "bad/layer.tar"]}]).encode()
    members = [file("c.json", config([LAYER, LAYER])), file("manifest.json", listed), file("x.tar", LAYER), folder("id")]
    members += [link("id/layer.tar", "../x.tar"), link("bad/layer.tar", "../../../etc/passwd")]
    path = tmp_path / "saved.tar"
    path.write_bytes(tar(*members))
    with pytest.raises(NotFound, match="layer 2 is missing"):
        layouts.in_docker_archive(path, "", LIMITS, tmp_path)
    path.write_bytes(tar(*members[:-1], link("bad/layer.tar", "../id/layer.tar")))
    assert [layer.size for layer in layouts.in_docker_archive(path, "", LIMITS, tmp_path).layers] == [len(LAYER)] * 2


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"nothing", "cannot be read as a tar archive"),
        (tar(), "no manifest.json"),
        (tar(file("manifest.json", b"{")), "not JSON"),
        (tar(file("manifest.json", b"{}")), "not a list"),
        (tar(file("manifest.json", b"[1]")), "not a JSON object"),
        (tar(file("manifest.json", b"[]")), "no container image in"),
        (tar(file("manifest.json", b'[{"Config": "/etc/passwd"}]')), "the config is missing"),
        (tar(file("manifest.json", b'[{}, {"RepoTags": ["a:1"]}]')), "has 2 container images"),
        (tar(file("manifest.json", b" " * 5_000_000)), "more than the"),
        (packed(bytes(3 << 20)), "left of the limit"),
    ],
)
def test_archives_that_are_refused(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "saved.tar"
    path.write_bytes(content)
    with pytest.raises(DayflyError, match=why):
        layouts.in_docker_archive(path, "", LIMITS, tmp_path)


def test_how_skopeo_is_told_of_certificates_and_credentials() -> None:
    access = Access(ca=Path("/ca.pem"), auth_file=Path("/auth.json"), insecure=True)
    wanted = ["--src-tls-verify=false", "--src-cert-dir=/certs", "--src-authfile=/auth.json"]
    assert access.options("src-", Path("/certs")) == wanted
    assert Access().options("", Path("/certs")) == []
