"""Layers laid over each other, in memory."""

from __future__ import annotations

import io
import os
import struct
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.framework.containers import TIME, Member, file, folder, hard, link, member, tar

from dayfly.errors import Refused
from dayfly.imagebuild.containerimage import archive, layer
from dayfly.imagebuild.containerimage.furnish import furnish
from dayfly.imagebuild.containerimage.tree import Kind, Limits, Node, Tree

LIMITS = Limits(size=1 << 20, entries=1000, depth=32)


def merged(tmp_path: Path, *layers: bytes, limits: Limits = LIMITS) -> Tree:
    tree = Tree(limits, 0)
    for number, content in enumerate(layers):
        path = tmp_path / f"layer{number}"
        path.write_bytes(content)
        tree.apply(layer.entries(path, number, limits.entries))
    tree.drop_devices()
    return tree


def names(tree: Tree) -> list[str]:
    return [path for path, _ in tree.walk() if path]


def read(tree: Tree, tmp_path: Path, path: str) -> bytes:
    opened = [os.open(one, os.O_RDONLY) for one in sorted(tmp_path.glob("layer*"))]
    try:
        return archive.content(tree.find(path), opened, 1 << 20)
    finally:
        for one in opened:
            os.close(one)


def test_a_later_layer_replaces_files_and_keeps_the_rest(tmp_path: Path) -> None:
    tree = merged(tmp_path, tar(folder("a"), file("a/x", b"old"), file("a/y", b"y")), tar(file("a/x", b"new")))
    assert names(tree) == ["a", "a/x", "a/y"]
    assert read(tree, tmp_path, "a/x") == b"new"
    assert read(tree, tmp_path, "/a/y") == b"y"


def test_a_whiteout_hides_a_file_or_a_whole_folder_of_the_layers_below(tmp_path: Path) -> None:
    below = tar(folder("a"), file("a/x"), folder("b"), file("b/x"), file("c"))
    assert names(merged(tmp_path, below, tar(file(".wh.b"), file("a/.wh.x"), file("a/.wh.none")))) == ["a", "c"]


@pytest.mark.parametrize("order", [1, -1])
def test_a_whiteout_leaves_what_its_own_layer_has_wherever_it_stands(tmp_path: Path, order: int) -> None:
    upper = [file("a/.wh.x"), file("a/x", b"new"), file(".wh.b"), folder("b"), file("b/new")][::order]
    tree = merged(tmp_path, tar(folder("a"), file("a/x", b"old"), folder("b"), file("b/old")), tar(*upper))
    assert names(tree) == ["a", "a/x", "b", "b/new"]
    assert read(tree, tmp_path, "a/x") == b"new"


@pytest.mark.parametrize("order", [1, -1])
def test_an_opaque_folder_hides_all_below_it_and_keeps_its_own(tmp_path: Path, order: int) -> None:
    upper = [folder("a", mode=0o700), file("a/.wh..wh..opq"), file("a/new")][::order]
    tree = merged(tmp_path, tar(folder("a"), file("a/old"), folder("a/b"), file("a/b/c")), tar(*upper))
    assert names(tree) == ["a", "a/new"]
    assert tree.find("a").attributes.mode == 0o700  # type: ignore[union-attr]


def test_an_opaque_whiteout_of_the_root_or_of_nothing(tmp_path: Path) -> None:
    assert names(merged(tmp_path, tar(file("a")), tar(file(".wh..wh..opq"), file("b"), file("no/.wh..wh..opq")))) == ["b"]


def test_a_folder_in_a_links_place_hides_nothing_of_what_the_link_leads_to(tmp_path: Path) -> None:
    upper = [folder("a"), file("a/.wh..wh..opq"), file("a/.wh.x"), folder("a/c"), file("a/c/.wh.y")]
    tree = merged(tmp_path, tar(folder("b"), file("b/x"), folder("b/c"), file("b/c/y"), link("a", "b")), tar(*upper))
    assert names(tree) == ["a", "a/c", "b", "b/c", "b/c/y", "b/x"]


def test_a_whiteout_below_a_link_hides_what_the_link_leads_to(tmp_path: Path) -> None:
    assert names(merged(tmp_path, tar(folder("b"), file("b/x"), link("a", "b")), tar(file("a/.wh.x")))) == ["a", "b"]


def test_notes_of_aufs_are_left_out(tmp_path: Path) -> None:
    assert names(merged(tmp_path, tar(folder(".wh..wh.plnk"), file(".wh..wh.plnk/1"), file(".wh..wh.aufs"), file("a")))) == ["a"]


@pytest.mark.parametrize("name", [".wh.", ".wh..", "a/.wh..", ".wh..."])
def test_a_whiteout_of_no_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Refused, match="is not a valid whiteout"):
        merged(tmp_path, tar(file("b")), tar(file(name)))


def test_types_replace_each_other(tmp_path: Path) -> None:
    below = tar(folder("a"), file("a/x"), file("b"), link("c", "a"), folder("d"), file("d/x"))
    tree = merged(tmp_path, below, tar(file("a"), folder("b"), folder("c"), link("d", "b")))
    assert {path: node.kind for path, node in tree.walk() if path} == {
        "a": Kind.FILE,
        "b": Kind.FOLDER,
        "c": Kind.FOLDER,
        "d": Kind.LINK,
    }


def test_a_folder_that_comes_again_keeps_what_is_in_it(tmp_path: Path) -> None:
    tree = merged(tmp_path, tar(folder("a", mode=0o700, uid=5), file("a/x")), tar(folder("a", mode=0o1777, uid=6, mtime=7)))
    assert names(tree) == ["a", "a/x"]
    about = tree.find("a").attributes  # type: ignore[union-attr]
    assert (about.mode, about.uid, about.mtime) == (0o1777, 6, 7)


def test_hard_links_within_and_across_layers(tmp_path: Path) -> None:
    tree = merged(
        tmp_path,
        tar(file("a", b"1"), hard("b", "a"), link("s", "a"), hard("t", "s")),
        tar(hard("d/c", "/b"), file("a", b"2")),
    )
    assert tree.find("b") is tree.find("d/c")
    assert tree.find("a") is not tree.find("b")
    assert read(tree, tmp_path, "d/c") == b"1"
    assert tree.root.children["s"] is tree.root.children["t"]


@pytest.mark.parametrize(
    ("target", "why"), [("none", "does not exist"), ("../etc/passwd", r"contains \.\."), ("d", "to a folder")]
)
def test_hard_links_that_lead_nowhere_are_refused(tmp_path: Path, target: str, why: str) -> None:
    with pytest.raises(Refused, match=why):
        merged(tmp_path, tar(folder("d"), hard("a", target)))


def test_an_absolute_hard_link_is_one_inside_the_container(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="does not exist"):
        merged(tmp_path, tar(hard("a", "/etc/passwd")))


@pytest.mark.parametrize("target", ["/etc", "../../../etc", "/../etc", "etc/.", "./x/../etc"])
def test_what_is_below_a_link_is_inside_the_container(tmp_path: Path, target: str) -> None:
    tree = merged(tmp_path, tar(folder("etc"), folder("x"), link("a", target)), tar(file("a/passwd", b"mine")))
    assert names(tree) == ["a", "etc", "etc/passwd", "x"]
    assert tree.root.children["a"].kind is Kind.LINK


def test_a_dangling_link_above_a_file_makes_a_folder_inside(tmp_path: Path) -> None:
    assert names(merged(tmp_path, tar(link("a", "/new/here"), file("a/x")))) == ["a", "new", "new/here", "new/here/x"]


def test_links_in_a_circle_and_files_below_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="loop"):
        merged(tmp_path, tar(link("a", "b"), link("b", "a"), file("a/x")))
    with pytest.raises(Refused, match="not a folder"):
        merged(tmp_path, tar(file("a"), file("a/x")))


def test_links_that_lead_around_for_long_are_refused(tmp_path: Path) -> None:
    """Forty links of two thousand steps each, for each of many entries, would take hours."""
    around = "a/../" * 800
    links = [link(f"l{at}", f"{around}l{at - 1}" if at else f"{around}a") for at in range(30)]
    with pytest.raises(Refused, match="too many steps"):
        merged(tmp_path, tar(folder("a"), *links, *(file(f"l29/{at}") for at in range(100))))


@pytest.mark.parametrize("name", ["../x", "a/../../x", "a/..", "..", "/../x"])
def test_paths_that_lead_up_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Refused, match=r"contains \.\."):
        merged(tmp_path, tar(folder("a"), file(name)))


def test_an_absolute_path_is_inside_the_container(tmp_path: Path) -> None:
    assert names(merged(tmp_path, tar(file("/etc/passwd"), file("./b"), folder("/c/")))) == ["b", "c", "etc", "etc/passwd"]


def test_device_nodes_are_left_out_and_hide_what_had_their_name(tmp_path: Path) -> None:
    devices = [member("dev/sda", tarfile.BLKTYPE, devmajor=8), member("a", tarfile.CHRTYPE)]
    assert names(merged(tmp_path, tar(file("a"), file("b")), tar(*devices))) == ["b", "dev"]


def test_a_hard_link_to_a_device_node_is_left_out_as_that_is(tmp_path: Path) -> None:
    below = tar(folder("dev"), member("dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3), hard("dev/same", "dev/null"))
    upper = tar(hard("later", "dev/same"), file("dev/.wh.null"), file("b"))
    assert names(merged(tmp_path, below, upper)) == ["b", "dev"]


def test_the_root_keeps_its_attributes_and_is_a_folder(tmp_path: Path) -> None:
    assert merged(tmp_path, tar(folder("./", mode=0o555, uid=9))).root.attributes.uid == 9
    with pytest.raises(Refused, match="root of the container"):
        merged(tmp_path, tar(link(".", "etc")))


def test_limits_of_entries_depth_names_and_sizes(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="more than the limit of 10 entries"):
        merged(tmp_path, *[tar(*(file(f"{n}{at}") for at in range(6))) for n in "ab"], limits=Limits(entries=10))
    with pytest.raises(Refused, match="more than 10 entries"):
        merged(tmp_path, tar(*(file(f"{at}") for at in range(11))), limits=Limits(entries=10))
    with pytest.raises(Refused, match="folders deep"):
        merged(tmp_path, tar(file("/".join("a" * 33))))
    with pytest.raises(Refused, match="more than 254 bytes"):
        merged(tmp_path, tar(file("ä" * 127 + "x")))
    with pytest.raises(Refused, match="more than 3072 bytes"):
        merged(tmp_path, tar(file("/".join(["a" * 200] * 21))))
    with pytest.raises(Refused, match="--max-size"):
        merged(tmp_path, tar(file("a", bytes(600_000)), file("b", bytes(600_000)))).check()


def test_links_do_not_make_a_path_too_deep_or_too_long(tmp_path: Path) -> None:
    steps: list[Member] = [folder("a")]
    for at in range(40):
        steps += [folder("a/b"), link(f"l{at}", "/a/b" if at == 0 else f"/l{at - 1}/b"), folder(f"l{at}/b")]
    with pytest.raises(Refused, match="folders deep"):
        merged(tmp_path, tar(*steps))
    long = "n" * 250
    deep: list[Member] = [folder(long), link("l0", long)]
    for at in range(1, 18):
        deep += [folder(f"l{at - 1}/{long}"), link(f"l{at}", f"l{at - 1}/{long}")]
    with pytest.raises(Refused, match="more than 3072 bytes"):
        merged(tmp_path, tar(*deep)).check()


def sparse(size: int, *parts: tuple[int, bytes], claimed: str = "") -> bytes:
    """A layer with a file that has holes, as GNU tar writes it."""
    numbers = [len(parts) + 1, *(n for start, data in parts for n in (start, len(data))), size, 0]
    table = ("".join(f"{number}\n" for number in numbers)).encode()
    table = (claimed.encode() or table).ljust(512, b"\0")
    pax = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "a", "GNU.sparse.realsize": str(size)}
    return tar(file("GNUSparseFile.0/a", table + b"".join(data for _, data in parts), pax_headers=pax))


def test_files_with_holes(tmp_path: Path) -> None:
    tree = merged(tmp_path, sparse(900_000, (4096, b"one".ljust(512, b"1")), (800_000, b"two")))
    content = read(tree, tmp_path, "a")
    assert len(content) == 900_000
    assert (content[4096:4099], content[800_000:800_003], content.count(0)) == (b"one", b"two", 900_000 - 515)


def test_a_file_of_a_terabyte_of_holes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"1\.0 TiB|1 TiB"):
        merged(tmp_path, sparse(1 << 40)).check()


@pytest.mark.parametrize("table", ["2\n9\n-5\n3\n3\n", "2\n100\n5\n50\n5\n", "1\n0\n99999999\n", "x\n", "9999999\n"])
def test_maps_of_holes_that_lie_are_refused(tmp_path: Path, table: str) -> None:
    with pytest.raises(Refused):
        merged(tmp_path, sparse(1000, (0, b"data"), claimed=table)).check()


def test_attributes_are_kept_and_those_of_the_kernels_are_not(tmp_path: Path) -> None:
    capability = struct.pack("<5I", 0x2000001, 1 << 10, 0, 0, 0).decode("utf-8", "surrogateescape")
    extended = {
        "SCHILY.xattr.security.capability": capability,
        "SCHILY.xattr.user.note": "ä",
        "SCHILY.xattr.trusted.overlay.opaque": "y",
        "SCHILY.xattr.user.overlay.opaque": "y",
        "SCHILY.xattr.security.selinux": "label",
    }
    tree = merged(tmp_path, tar(file("a", mode=0o4755, uid=3_000_000, gid=70_000, pax_headers=extended), file("b", mtime=-5)))
    about = tree.find("a").attributes  # type: ignore[union-attr]
    assert (about.mode, about.uid, about.gid, about.mtime) == (0o4755, 3_000_000, 70_000, TIME)
    assert dict(about.extended) == {"security.capability": capability, "user.note": "ä"}
    assert tree.find("b").attributes.mtime == -5  # type: ignore[union-attr]


@pytest.mark.parametrize("number", ["-1", str(2**32 - 1), str(2**62)])
def test_owners_that_there_cannot_be_are_refused(tmp_path: Path, number: str) -> None:
    with pytest.raises(Refused, match="has an invalid"):
        merged(tmp_path, tar(file("a", pax_headers={"uid": number})))


def test_large_extended_attributes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="extended attributes"):
        merged(tmp_path, tar(file("a", pax_headers={"SCHILY.xattr.user.x": "x" * 3100})))


def header(name: str, kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "content",
    [
        b"no archive at all" * 100,
        tar(file("a", bytes(100_000)))[:2048],
        header("a", b"x", 1 << 33) + bytes(1024),  # an extended header of 8 GiB
        header("a", b"L", 1 << 33) + bytes(1024),
        header("a", b"x", 4096) + b"1" * 4096,  # digits that tarfile would look at for long
        header("a", b"x", 512) * 3000,  # headers of headers of headers
        header("a", tarfile.REGTYPE, -1024) * 3,
        header("a", tarfile.REGTYPE, 512) + bytes(512) + header("b", tarfile.REGTYPE, -1024) + bytes(1024),
        header("a", tarfile.REGTYPE, 1 << 40) + bytes(1024),
        header("a", b"V", 0) + bytes(1024),
        header("a", b"7", 0)[:156] + b"Z" + header("a", b"7", 0)[157:],
    ],
)
def test_archives_that_are_none_are_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(Refused):
        merged(tmp_path, content)


NAMES = st.sampled_from(
    ["a", "b", "a/b", "b/a", "a/b/c", ".wh.a", "a/.wh.b", "b/.wh..wh..opq", "/c", "./a/", "a/../b", "d" * 300]
)
MEMBERS = st.one_of(
    st.builds(file, NAMES, st.binary(max_size=20)),
    st.builds(folder, NAMES),
    st.builds(link, NAMES, st.sampled_from(["a", "/b", "..", "a/b", "/", "../../c", "."])),
    st.builds(hard, NAMES, st.sampled_from(["a", "b", "a/b", "/c"])),
    st.builds(lambda name: member(name, tarfile.FIFOTYPE), NAMES),
)


@given(st.lists(st.lists(MEMBERS, max_size=8), min_size=1, max_size=4))
def test_whatever_layers_say_what_is_written_lies_inside(
    tmp_path_factory: pytest.TempPathFactory, layers: list[list[Member]]
) -> None:
    """In the archive each name comes once, after its folder, which is one and no link; a hard link after what it is one to."""
    tmp_path = tmp_path_factory.mktemp("layers")
    try:
        tree = merged(tmp_path, *(tar(*one) for one in layers))
    except Refused:
        return
    seen: dict[str, bytes] = {}
    for info in rewritten(tree, tmp_path):
        name = info.name.removeprefix(".").strip("/")
        assert name not in seen
        assert not name or seen[name.rpartition("/")[0]] == tarfile.DIRTYPE
        assert not {"..", "."} & set(name.split("/"))
        assert not info.islnk() or seen[info.linkname.removeprefix("./")] not in (tarfile.DIRTYPE, tarfile.LNKTYPE)
        seen[name] = info.type


def rewritten(tree: Tree, tmp_path: Path) -> list[tarfile.TarInfo]:
    opened = [os.open(one, os.O_RDONLY) for one in sorted(tmp_path.glob("layer*"))]
    with (tmp_path / "out").open("w+b") as target:
        archive.write(tree, opened, target, 2**40)
        target.seek(0)
        with tarfile.open(fileobj=target) as result:
            found = result.getmembers()
    for one in opened:
        os.close(one)
    return found


@given(st.binary(max_size=3000), st.integers(0, 4), st.integers(0, 2000))
def test_damaged_archives_are_refused_or_read(tmp_path_factory: pytest.TempPathFactory, noise: bytes, kind: int, at: int) -> None:
    tmp_path = tmp_path_factory.mktemp("layers")
    whole = bytearray(tar(file("a" * 150, b"x" * 700), link("l", "a"), hard("h", "l"), folder("f")))
    if kind:
        whole[at : at + len(noise) // (8 * kind)] = noise[: len(noise) // (8 * kind)]
    try:
        tree = merged(tmp_path, bytes(whole) if kind else noise)
    except Refused:
        return
    rewritten(tree, tmp_path)


def test_the_archive_has_everything(tmp_path: Path) -> None:
    tree = merged(
        tmp_path,
        tar(
            file("b", b"content", uid=70_000, mode=0o4711, mtime=5),
            hard("c", "b"),
            link("d", "/b"),
            member("e", tarfile.FIFOTYPE),
        ),
        sparse(200_000, (100_000, b"data")),
        tar(file("\udcff\udcfe", b"raw name", pax_headers={"SCHILY.xattr.user.x": "\udc80"})),
    )
    found = {info.name: info for info in rewritten(tree, tmp_path)}
    assert list(found) == [".", "./a", "./b", "./c", "./d", "./e", "./\udcff\udcfe"]
    assert (found["./a"].size, found["./b"].size) == (200_000, 7)
    assert (found["./b"].uid, found["./b"].mode, found["./b"].mtime) == (70_000, 0o4711, 5)
    assert (found["./c"].linkname, found["./d"].linkname) == ("./b", "/b")
    assert found["./\udcff\udcfe"].pax_headers["SCHILY.xattr.user.x"] == "\udc80"
    assert io.BytesIO(tar()).getvalue()


def test_furnishing_adds_what_is_missing_and_leaves_the_rest(tmp_path: Path) -> None:
    tree = merged(
        tmp_path, tar(folder("lib"), folder("etc"), file("etc/hosts"), file("etc/hostname", b"mine"), link("run", "/var/run"))
    )
    furnish(tree, "/app/data", TIME)
    assert tree.root.children["lib"].children["modules"].target == "../usr/lib/modules"
    assert read(tree, tmp_path, "etc/hostname") == b"mine"
    assert b"localhost" in read(tree, tmp_path, "etc/hosts")
    assert tree.find("/app/data") is not None
    assert tree.find("tmp").attributes.mode == 0o1777  # type: ignore[union-attr]
    assert isinstance(tree.find("usr/lib"), Node)


def test_furnishing_follows_links_and_replaces_nothing(tmp_path: Path) -> None:
    tree = merged(tmp_path, tar(link("run", "/var/run"), link("srv", "data/srv"), file("proc", b"x")))
    furnish(tree, "/srv/app", TIME)
    kinds = {path: node.kind for path, node in tree.walk() if path.split("/")[0] in ("run", "srv", "var", "data", "proc")}
    assert kinds == {
        "data": Kind.FOLDER,
        "data/srv": Kind.FOLDER,
        "data/srv/app": Kind.FOLDER,
        "proc": Kind.FOLDER,
        "run": Kind.LINK,
        "srv": Kind.LINK,
        "var": Kind.FOLDER,
        "var/run": Kind.FOLDER,
    }


@pytest.mark.parametrize(
    ("directory", "why"),
    [
        ("/app", "the container image's WorkingDir, /app, is a file in its layers"),
        ("/linked", "the container image's WorkingDir, /linked, is a file in its layers"),
        ("/pipe", "the container image's WorkingDir, /pipe, is a fifo in its layers"),
        ("/app/below", "the container image's WorkingDir, /app/below, cannot be made: .* below 'app', which is not a folder"),
    ],
)
def test_a_working_directory_that_is_none_is_refused(tmp_path: Path, directory: str, why: str) -> None:
    tree = merged(tmp_path, tar(file("app", b"x"), link("linked", "app"), member("pipe", tarfile.FIFOTYPE)))
    with pytest.raises(Refused, match=why) as caught:
        furnish(tree, directory, TIME)
    assert "WORKDIR" in caught.value.hint
    assert read(tree, tmp_path, "app") == b"x"


def test_a_root_that_the_modules_would_hide_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="/usr/lib is not a folder"):
        furnish(merged(tmp_path, tar(folder("usr"), link("usr/lib", "lib64"))), "", 0)
