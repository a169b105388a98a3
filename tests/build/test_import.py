"""Containers made by umoci, buildah, skopeo and by hand, imported by the command, and compared with what umoci unpacks."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import struct
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tests.build.conftest import Imports, as_another_user, command_lines, run
from tests.framework.containers import (
    TIME,
    Layout,
    Member,
    config,
    docker_archive,
    file,
    folder,
    hard,
    layout,
    link,
    member,
    packed,
    tar,
)
from tests.framework.site import eventually

from dayfly.image.library import Library
from dayfly.image.manifest import Role
from dayfly.image.reference import parse

CAPABILITY = struct.pack("<5I", 0x2000001, 1 << 10, 0, 0, 0).decode("utf-8", "surrogateescape")
EXTENDED = {"SCHILY.xattr.security.capability": CAPABILITY, "SCHILY.xattr.user.note": "n"}
HIGH = 1_337_000_003
LOWER: list[Member] = [
    folder("./"),
    folder("etc", mtime=TIME - 5),
    file("etc/os-release", b'ID=tiny\nVERSION_ID=1\nPRETTY_NAME="Tiny 1"\n'),
    file("etc/passwd", b"root:x:0:0::/:/bin/sh\n", mode=0o600),
    folder("bin", mode=0o555),
    file("bin/tool", b"#!/bin/sh\n" * 500, mode=0o4755, uid=33, gid=70_000, mtime=TIME - 100),
    hard("bin/tool2", "bin/tool"),
    link("bin/sh", "/bin/tool", uid=5),
    folder("tmp", mode=0o1777),
    folder("gone"),
    file("gone/x"),
    folder("opaque"),
    file("opaque/old"),
    file("replaced", b"old"),
    folder("usr"),
    folder("usr/lib"),
    link("lib", "usr/lib"),
    file("owned", uid=HIGH, gid=HIGH, mode=0o6711),
    file("nobody", uid=65534, gid=65535),
    member("pipe", tarfile.FIFOTYPE, mode=0o620),
    file("name with spaces\nand a line", b"odd"),
    file("raw-\udcff\udcfe", b"not UTF-8"),
    file(
        "capable", b"x", mode=0o755, pax_headers={"SCHILY.xattr.security.capability": CAPABILITY, "SCHILY.xattr.user.note": "n"}
    ),
]
MIDDLE: list[Member] = [
    file(".wh.gone"),
    folder("opaque", mode=0o750, gid=100),
    file("opaque/.wh..wh..opq"),
    file("opaque/new", b"new"),
    file("replaced", b"new content", uid=1),
    hard("etc/tool3", "bin/tool"),
    hard("bin/sh2", "bin/sh"),
]
UPPER: list[Member] = [file("lib/through-the-link", b"lib"), file("bin/.wh.tool2"), folder("gone"), file("gone/again", b"y")]
TREE = [tar(*members) for members in (LOWER, MIDDLE, UPPER)]
RUN = {
    "Env": ["PATH=/bin", "LANG=C"],
    "Entrypoint": ["/bin/tool"],
    "Cmd": ["a", "b c"],
    "WorkingDir": "/srv/work",
    "User": "1000:1000",
    "Labels": {"org.example.a": "b"},
}


def seen(root: Path) -> dict[str, tuple[Any, ...]]:
    """Everything about the files below a folder that can be compared.

    fsck.erofs brings neither set-user-ID bits back (tests/machine looks at them) nor hard links (`facts` has them).
    """
    found: dict[str, tuple[Any, ...]] = {}
    for path in sorted(root.rglob("*")):
        about, name = path.lstat(), str(path.relative_to(root))
        content = str(path.readlink()) if path.is_symlink() else path.read_bytes() if stat.S_ISREG(about.st_mode) else None
        size = 0 if stat.S_ISDIR(about.st_mode) else about.st_size
        found[name] = (about.st_mode & ~0o6000, about.st_uid, about.st_gid, size, int(about.st_mtime), content)
    return found


def facts(image: Path, *paths: str) -> list[tuple[str, ...]]:
    """The number and the links of files in a filesystem, as dump.erofs tells them."""
    found = []
    for path in paths:
        text = run("dump.erofs", f"--path=/{path}", image)
        fields = (re.search(pattern, text) for pattern in (r"NID: (\d+)", r"Links: (\d+)"))
        found.append(tuple(match[1] if match else "" for match in fields))
    return found


def extracted(library: Library, name: str, target: Path) -> Path:
    """The files of an image's root."""
    with library.open(parse(name)) as image:
        assert image.root.form == "erofs"
        run("fsck.erofs", f"--extract={target}", "--preserve", image.root.path)
    return target


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others, to compare them")
def test_an_image_has_the_files_that_umoci_unpacks(imports: Imports, tmp_path: Path) -> None:
    layout(tmp_path / "lay", *TREE, tag="v1", run=RUN)
    imports.imported(f"oci:{tmp_path}/lay:v1")
    ours = seen(extracted(imports.library, "lay:v1", tmp_path / "ours"))
    run("umoci", "unpack", "--image", f"{tmp_path}/lay:v1", tmp_path / "bundle")
    theirs = seen(tmp_path / "bundle/rootfs")
    added = {"dev", "proc", "sys", "run", "srv", "srv/work"}
    added |= {f"etc/{name}" for name in ("hostname", "hosts", "machine-id", "resolv.conf")}
    assert set(ours) - set(theirs) == added
    assert {name: about for name, about in ours.items() if name not in added} == theirs
    assert ours["owned"][1:3] == (HIGH, HIGH)
    with imports.library.open(parse("lay:v1")) as image:
        tool, other = facts(image.root.path, "bin/tool", "etc/tool3")
        assert tool == other
        assert tool[1] == "2"
        assert len(set(facts(image.root.path, "bin/sh", "bin/sh2"))) == 1


def test_what_the_image_says_of_itself(imports: Imports, tmp_path: Path) -> None:
    made = layout(tmp_path / "lay", *TREE, tag="v1", run=RUN)
    imports.imported(f"oci:{tmp_path}/lay:v1", "tiny:1")
    shown = json.loads(imports.run("show", "tiny:1", "--json").stdout)
    wanted = {
        "entrypoint": ["/bin/tool"],
        "command": ["a", "b c"],
        "directory": "/srv/work",
        "default_user": "1000:1000",
        "environment": {"PATH": "/bin", "LANG": "C"},
        "labels": {"org.example.a": "b"},
        "created": "2026-01-02T03:04:05Z",
        "os": {"id": "tiny", "version": "1", "pretty_name": "Tiny 1"},
    }
    assert {name: shown["config"][name] for name in wanted} == wanted
    assert set(shown["layers"]) == {"root", "kernel", "modules", "boot-modules"}
    came = shown["origins"][0]
    assert (came["source"], came["digest"]) == (f"oci:{tmp_path}/lay:v1", made.listed[0]["digest"])
    text = imports.run("show", "tiny:1").stdout
    assert "command:        /bin/tool a 'b c'" in text
    assert f"oci:{tmp_path}/lay:v1 (sha256:" in text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_an_ordinary_user_makes_the_same_image_as_root(imports: Imports, tmp_path: Path) -> None:
    layout(tmp_path / "lay", *TREE, tag="v1", run=RUN)
    first = imports.imported(f"oci:{tmp_path}/lay:v1")
    assert imports.imported(f"oci:{tmp_path}/lay:v1") == first
    assert as_another_user(tmp_path / "lay", "oci:{}:v1", imports.library) == first


def copied(source: str, target: str, *options: str) -> None:
    run("skopeo", "--insecure-policy", "copy", "--quiet", *options, source, target)


def test_the_same_container_in_every_form_is_the_same_image(imports: Imports, tmp_path: Path) -> None:
    """As skopeo writes it: archives, layers packed by zstd or not at all, Docker's manifests."""
    layout(tmp_path / "lay", *TREE, tag="v1", run=RUN)
    lay, other = f"oci:{tmp_path}/lay:v1", f"{tmp_path}/zstd"
    first = imports.imported(lay, "a:1")
    copied(lay, f"docker-archive:{tmp_path}/saved.tar:site/app:1")
    copied(lay, f"oci-archive:{tmp_path}/archive.tar:v1")
    copied(lay, f"oci:{other}:v1", "--dest-compress-format", "zstd")
    assert b"tar+zstd" in b"".join(path.read_bytes() for path in (tmp_path / "zstd/blobs/sha256").iterdir())
    run("gzip", "--keep", tmp_path / "saved.tar")
    sources = [f"docker-archive:{tmp_path}/saved.tar", f"oci-archive:{tmp_path}/archive.tar:v1", f"oci:{other}:v1"]
    sources += [f"docker-archive:{tmp_path}/saved.tar.gz:site/app:1"]
    assert [imports.imported(source) for source in sources] == [first] * 4
    assert {image.name for image in imports.library.images()} == {"base:1", "a:1", "app:1", "archive:v1", "zstd:v1"}


def test_an_archive_of_docker_save_with_packed_layers(imports: Imports, tmp_path: Path) -> None:
    plain = imports.imported(f"docker-archive:{docker_archive(tmp_path / 'plain.tar', TREE)}")
    assert imports.imported(f"docker-archive:{docker_archive(tmp_path / 'packed.tar', TREE, pack=packed)}") == plain


def test_what_umoci_and_buildah_make(imports: Imports, tmp_path: Path) -> None:
    files = tmp_path / "files"
    (files / "app").mkdir(parents=True)
    (files / "app/run").write_text("#!/bin/sh\n")
    run("umoci", "init", "--layout", tmp_path / "umoci")
    run("umoci", "new", "--image", f"{tmp_path}/umoci:v1")
    run("umoci", "insert", "--image", f"{tmp_path}/umoci:v1", files / "app", "/app")
    run("umoci", "insert", "--image", f"{tmp_path}/umoci:v1", "--whiteout", "/app/none")
    run("umoci", "config", "--image", f"{tmp_path}/umoci:v1", "--config.cmd", "/app/run")
    imports.imported(f"oci:{tmp_path}/umoci:v1")
    assert imports.library.inspect(parse("umoci:v1"))[2].command == ("/app/run",)
    (tmp_path / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    buildah = ["buildah", "--storage-driver", "vfs", "--root", f"{tmp_path}/storage", "--runroot", f"{tmp_path}/run"]
    container = run(*buildah, "from", "scratch").strip()
    run(*buildah, "copy", container, files, "/")
    run(*buildah, "config", "--cmd", "/app/run", container)
    target = f"oci:{tmp_path}/buildah:v1"
    run(*buildah, "commit", "--signature-policy", tmp_path / "policy.json", container, target)
    imports.imported(target)
    for name in ("umoci:v1", "buildah:v1"):
        assert (extracted(imports.library, name, tmp_path / name) / "app/run").read_text() == "#!/bin/sh\n"


def test_a_file_with_holes(imports: Imports, tmp_path: Path) -> None:
    source = tmp_path / "files/sparse"
    source.parent.mkdir()
    with source.open("wb") as output:
        output.seek(50_000_000)
        output.write(b"in the middle")
        output.truncate(100_000_000)
    for number, form in enumerate(("--format=gnu", "--format=posix")):
        run("tar", "--sparse", form, "-C", source.parent, "-cf", tmp_path / "layer.tar", "sparse")
        content = (tmp_path / "layer.tar").read_bytes()
        assert len(content) < 100_000
        layout(tmp_path / f"lay{number}", content)
        imports.imported(f"oci:{tmp_path}/lay{number}", f"holes:{number}")
        found = extracted(imports.library, f"holes:{number}", tmp_path / f"out{number}") / "sparse"
        assert found.stat().st_size == 100_000_000
        with found.open("rb") as opened:
            opened.seek(50_000_000)
            assert opened.read(14) == b"in the middle\0"


def test_an_index_for_several_platforms(imports: Imports, tmp_path: Path) -> None:
    made = Layout(tmp_path / "lay")
    made.add([tar(file("amd64"))])
    made.add([tar(file("arm64"))], whole_config=config([tar(file("arm64"))], architecture="arm64"))
    amd, arm = ({key: value for key, value in one.items() if key != "annotations"} for one in made.listed)
    amd["platform"], arm["platform"] = ({"os": "linux", "architecture": name} for name in ("amd64", "arm64"))
    made.add_index([arm, amd], "several")
    made.add_index([arm], "other")
    imports.imported(f"oci:{tmp_path}/lay:several")
    assert (extracted(imports.library, "lay:several", tmp_path / "out") / "amd64").exists()
    alone = {**arm, "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}}
    made.add_index([alone, {**alone, "platform": {"os": "windows", "architecture": "amd64"}}], "none")
    assert "nothing for linux/amd64 (it has linux/arm64/v8, windows/amd64)" in imports.refused(f"oci:{tmp_path}/lay:none")
    assert "nothing for linux/amd64 (it has linux/arm64)" in imports.refused(f"oci:{tmp_path}/lay:other")


def test_the_kernel_is_that_of_the_image_that_is_named(imports: Imports, tmp_path: Path) -> None:
    layout(tmp_path / "lay", tar(file("a")))
    _, base, _ = imports.library.inspect(parse("base:1"))
    imports.imported(f"oci:{tmp_path}/lay", "--kernel-of", "base:1")
    _, manifest, config = imports.library.inspect(parse("lay:latest"))
    assert config.kernel.version == "6.1.0-44-amd64"
    for role in (Role.KERNEL, Role.MODULES, Role.BOOT_MODULES):
        assert manifest.find(role) == base.find(role)
    assert "no image none:1" in imports.refused(f"oci:{tmp_path}/lay", "x:1", "--kernel-of", "none:1")


def test_without_an_image_the_kernel_is_debians_and_that_it_cannot_be_reached_is_said(imports: Imports, tmp_path: Path) -> None:
    layout(tmp_path / "lay", tar(file("a")))
    imports.library = Library(tmp_path / "empty")
    imports.configure()
    assert "http://127.0.0.1:9/debian cannot be reached" in imports.refused(f"oci:{tmp_path}/lay")


@pytest.mark.timeout(600)
def test_without_an_image_the_kernel_is_debians(imports: Imports, tmp_path: Path) -> None:
    layout(tmp_path / "lay", tar(file("a")))
    imports.library = Library(tmp_path / "empty")
    imports.configure(mirror="")
    done = imports.run("import", f"oci:{tmp_path}/lay", env={**os.environ, **imports.settled()}, timeout=590)
    assert done.returncode == 0, done.stderr
    imports.nothing_left()
    _, manifest, config = imports.library.inspect(parse("lay:latest"))
    assert {layer.role for layer in manifest.layers} == set(Role) - {Role.DISK}
    assert config.kernel.version.endswith("-amd64")


HOSTILE: dict[str, tuple[list[Member], str]] = {
    "up": ([file("../../escaped", b"x")], "contains .."),
    "hard link up": ([hard("a", "../../../etc/passwd")], "contains .."),
    "hard link out": ([hard("a", "/etc/passwd")], "does not exist"),
    "circle": ([link("a", "b"), link("b", "a"), file("a/x")], "loop of links"),
    "below a file": ([file("a"), file("a/b")], "not a folder"),
    "name": ([file("n" * 255)], "more than 254 bytes"),
    "path": ([file("/".join(["d" * 250] * 13))], "more than 3072 bytes"),
    "deep": ([file("/".join("d" * 400))], "folders deep"),
    "owner": ([file("a", pax_headers={"uid": "-5"})], "has an invalid"),
    "usr": ([link("usr", "/mnt")], "/usr is not a folder"),
    "working directory": ([file("srv/work", b"a file")], "WorkingDir, /srv/work, is a file in its layers"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_layers_are_refused_and_nothing_is_left(imports: Imports, tmp_path: Path, name: str) -> None:
    members, why = HOSTILE[name]
    before = sorted(path for path in tmp_path.rglob("escaped"))
    layout(tmp_path / "lay", tar(*members), run={"WorkingDir": "/srv/work"})
    assert why in imports.refused(f"oci:{tmp_path}/lay")
    assert sorted(path for path in tmp_path.rglob("escaped")) == before == []


def test_links_to_the_host_lead_into_the_container(imports: Imports, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    trap.mkdir()
    members = [[link("a", str(trap)), link("b", "../../../../.." + str(trap))], [file("a/one", b"1"), file("b/two", b"2")]]
    layout(tmp_path / "lay", *(tar(*one) for one in members))
    imports.imported(f"oci:{tmp_path}/lay")
    assert list(trap.iterdir()) == []
    inside = extracted(imports.library, "lay:latest", tmp_path / "out") / str(trap).lstrip("/")
    assert sorted(path.name for path in inside.iterdir()) == ["one", "two"]


def test_device_nodes_are_left_out(imports: Imports, tmp_path: Path) -> None:
    layout(
        tmp_path / "lay",
        tar(file("a"), member("dev/sda", tarfile.BLKTYPE, devmajor=8), member("zero", tarfile.CHRTYPE, devminor=5)),
    )
    imports.imported(f"oci:{tmp_path}/lay")
    out = extracted(imports.library, "lay:latest", tmp_path / "out")
    assert not (out / "zero").exists()
    assert list((out / "dev").iterdir()) == []


@pytest.mark.parametrize(("bits", "why"), [(27, ""), (29, ""), (30, "with a window of 1 GiB; the limit is 512 MiB")])
def test_windows_of_zstd(imports: Imports, tmp_path: Path, bits: int, why: str) -> None:
    """As podman takes them; zstd itself takes 128 MiB unless it is told."""

    def pack(layer: bytes) -> bytes:
        return bytes(run("zstd", "-1", f"--long={bits}", "--stdout", "-", text=False, input=layer))  # type: ignore[arg-type]

    layout(tmp_path / "lay", tar(file("a", b"x")), tag="1", pack=pack, layer_type="application/vnd.oci.image.layer.v1.tar+zstd")
    if why:
        assert why in imports.refused(f"oci:{tmp_path}/lay:1")
    else:
        imports.imported(f"oci:{tmp_path}/lay:1")


LONGEST = "/".join(["p" * 254] * 12)


def test_what_is_at_the_edge_of_what_there_can_be(imports: Imports, tmp_path: Path) -> None:
    """Times with fractions, before 1970 and after 2038; long names; hard links to device nodes; no directory to start in."""
    times = {"a": 1_700_000_000.999, "b": -1.5, "c": -1_000_000_000, "d": 5_000_000_000, "e": 0}
    members = [file(name, b"x", mtime=time) for name, time in times.items()]
    members += [file("n" * 254), folder("dev"), member("dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3)]
    members += [hard("null", "dev/null"), file(f"{LONGEST}/f", b"deep")]
    layout(tmp_path / "lay", tar(*members), tag="1")
    imports.imported(f"oci:{tmp_path}/lay:1")
    found = seen(extracted(imports.library, "lay:1", tmp_path / "out"))
    assert {name: found[name][4] for name in times} == {
        "a": 1_700_000_000,
        "b": -2,
        "c": -1_000_000_000,
        "d": 5_000_000_000,
        "e": 0,
    }
    assert "n" * 254 in found
    assert f"{LONGEST}/f" in found
    assert "null" not in found
    assert "dev/null" not in found
    with imports.library.open(parse("lay:1")) as image:
        assert image.config.directory == "/"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others, to compare them")
def test_times_before_1970_are_those_that_umoci_gives(imports: Imports, tmp_path: Path) -> None:
    members = [folder("old", mtime=-86400.25), *(file(f"old/{at}", mtime=time) for at, time in enumerate([-1.5, -2, -3, 7.75]))]
    layout(tmp_path / "lay", tar(*members), tag="1")
    imports.imported(f"oci:{tmp_path}/lay:1")
    ours = seen(extracted(imports.library, "lay:1", tmp_path / "ours"))
    run("umoci", "unpack", "--image", f"{tmp_path}/lay:1", tmp_path / "bundle")
    theirs = {name: about.st_mtime_ns // 10**9 for name, about in lstats(tmp_path / "bundle/rootfs").items()}
    assert {name: ours[name][4] for name in theirs} == theirs


def lstats(root: Path) -> dict[str, os.stat_result]:
    return {str(path.relative_to(root)): path.lstat() for path in root.rglob("*")}


def test_bombs_are_given_up_at_their_limit(imports: Imports, tmp_path: Path) -> None:
    source = tmp_path / "files/bomb"
    source.parent.mkdir()
    with source.open("wb") as output:
        output.truncate(1 << 40)
    holes = run("tar", "--sparse", "-C", source.parent, "-cf", "-", "bomb", text=False)
    layout(tmp_path / "terabyte", bytes(holes))  # type: ignore[arg-type]
    assert "1.0 TiB, more than the limit of 16 GiB (--max-size raises it)" in imports.refused(f"oci:{tmp_path}/terabyte")
    layout(tmp_path / "zeros", tar(file("zeros", bytes(300 << 20))))
    assert (tmp_path / "zeros").stat().st_size < 2 << 20
    assert "more than the 100 MiB left of the limit" in imports.refused(f"oci:{tmp_path}/zeros", "--max-size", "100M")
    layout(tmp_path / "entries", tarfile.TarInfo("x").tobuf() * 1_000_001 + bytes(1024))
    assert "more than 1000000 entries" in imports.refused(f"oci:{tmp_path}/entries")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"layer_type": "application/x-tar"}, "not a container image's layer"),
        ({"layer_type": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"}, "only an address"),
        ({"change": lambda m: m["layers"][0].update(urls=["file:///etc/passwd"])}, "only an address"),
        ({"change": lambda m: m["layers"][0].update(size=5)}, "bytes instead of 5"),
        ({"change": lambda m: m["layers"][0].update(digest="sha256:" + "0" * 64)}, "layer 1 is missing"),
        ({"change": lambda m: m.update(layers=m["layers"] * 300)}, "at most 256 elements"),
        ({"pack": lambda layer: b"BZh91AY"}, "compressed with bzip2"),
        ({"pack": lambda layer: packed(layer)[:-9]}, "is truncated"),
        ({"pack": lambda layer: b"\x28\xb5\x2f\xfd" + b"rubbish"}, "zstd cannot unpack it"),
        ({"whole_config": config([b"other"])}, "does not match the digest in the container image's config"),
        ({"whole_config": b"{}"}, "container image for /"),
        ({"run": {"WorkingDir": "../up"}}, "must be an absolute path"),
    ],
)
def test_containers_that_lie_are_refused(imports: Imports, tmp_path: Path, options: dict[str, Any], why: str) -> None:
    layout(tmp_path / "lay", tar(file("a")), **options)
    assert why in imports.refused(f"oci:{tmp_path}/lay")


def test_a_layer_of_another_digest_is_refused(imports: Imports, tmp_path: Path) -> None:
    made = layout(tmp_path / "lay", tar(file("a")))
    for path in (made.place / "blobs/sha256").iterdir():
        if path.read_bytes()[:2] == b"\x1f\x8b":
            content = bytearray(path.read_bytes())
            content[4] ^= 1  # a time in gzip's header: it unpacks as before
            path.write_bytes(content)
    assert "does not match its digest" in imports.refused(f"oci:{tmp_path}/lay")


@pytest.mark.parametrize(
    "words", [("docker-archive:/none",), ("oci:/none:x",), ("nothing:x",), ("oci:/etc",), ("oci-archive:/etc/passwd",)]
)
def test_what_is_no_container_is_said_in_one_line(imports: Imports, words: tuple[str, ...]) -> None:
    assert imports.refused(*words)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["layers: unpacking", "root: making"])
def test_an_import_that_is_ended_leaves_nothing(imports: Imports, tmp_path: Path, number: signal.Signals, moment: str) -> None:
    noise = os.urandom(1 << 20)
    layout(tmp_path / "lay", tar(*(file(f"f{at}", noise[at:] + noise[:at]) for at in range(40))), pack=bytes)
    with subprocess.Popen(
        imports.command("import", f"oci:{tmp_path}/lay"), env=imports.environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        assert any(moment in line for line in process.stderr)
        process.send_signal(number)
    assert process.returncode != 0
    assert [image.name for image in imports.library.images()] == ["base:1"]
    eventually(lambda: not any(str(imports.scratch).encode() in line for line in command_lines()))
    if number != signal.SIGINT:
        assert json.loads(imports.run("gc", "--json").stdout)["folders"] == 1
    imports.nothing_left()
    blobs = imports.library.layout.blobs
    assert len(list(blobs.iterdir())) == len(set(blobs.iterdir())) == 6


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small filesystem to fill")
@pytest.mark.parametrize("full", ["library", "scratch"])
def test_a_full_disk_is_said_and_nothing_is_left(imports: Imports, tmp_path: Path, full: str) -> None:
    noise = os.urandom(1 << 20)
    layout(tmp_path / "lay", tar(*(file(f"f{at}", noise[at:] + noise[:at]) for at in range(20))), pack=bytes)
    small = Path(f"/var/tmp/small-{os.getpid()}")
    small.mkdir(mode=0o755)
    run("mount", "-t", "tmpfs", "-o", "size=10M,mode=755", "tmpfs", small)
    try:
        if full == "library":
            shutil.copytree(imports.library.layout.folder, small / "library")
            imports.library = Library(small / "library")
        else:
            imports.scratch = small
        imports.configure()
        assert f"no space left in {small}" in imports.refused(f"oci:{tmp_path}/lay")
    finally:
        run("umount", small)
        small.rmdir()
