"""The commands that a build runs, as they are given to the system."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import pytest

from dayfly.errors import NoSpace, ProgramFailed, Refused
from dayfly.imagebuild import debian, filesystem, namespace
from dayfly.imagebuild.boot import unpacked, unpacked_name
from dayfly.imagebuild.namespace import reporting_no_space


def test_mmdebstrap_fills_a_root() -> None:
    argv = debian.command(
        "bookworm",
        Path("/builds/root.tar"),
        ["deb http://a/debian bookworm main"],
        variant="minbase",
        packages=["gcc", "make"],
        apt_options=['Acquire::Check-Date "false";'],
    )
    assert argv[:4] == ["mmdebstrap", "--mode=root", "--format=tar", "--variant=minbase"]
    assert argv[4:6] == ["--architectures=amd64", "--include=gcc,make"]
    assert '--aptopt=Acquire::Check-Date "false";' in argv
    assert "--dpkgopt=path-exclude=/usr/share/man/*" in argv
    assert argv[-3:] == ["bookworm", "/builds/root.tar", "deb http://a/debian bookworm main"]


def test_a_kernel_is_only_unpacked() -> None:
    argv = debian.command("bookworm", Path("k.tar"), [], variant="extract", packages=["linux-image-amd64"])
    assert not [argument for argument in argv if "hook" in argument or "dpkgopt" in argument]
    assert not [
        argument for argument in debian.command("x", Path("t"), [], variant="apt", packages=[]) if argument[2:10] == "include="
    ]


def test_usr_is_merged_in_every_release() -> None:
    new = debian.command("bookworm", Path("t"), [], variant="minbase", packages=[])
    old = debian.command("bullseye", Path("t"), [], variant="minbase", packages=[])
    assert "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr" in new
    assert "--setup-hook=/usr/share/mmdebstrap/hooks/merged-usr/setup00.sh" in old


def test_the_environment_is_not_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy")
    monkeypatch.setenv("LC_ALL", "de_DE")
    monkeypatch.setenv("SECRET", "x")
    found = debian.environment(Path("/tmp/x"), 5)
    assert found["http_proxy"] == "http://proxy"
    assert (found["LC_ALL"], found["TMPDIR"], found["SOURCE_DATE_EPOCH"]) == ("C.UTF-8", "/tmp/x", "5")
    assert "SECRET" not in found


def test_only_root_maps_other_ids_than_its_own() -> None:
    assert "--map-root-user" in namespace.prefix(None)
    ours = namespace.prefix(100000)
    assert "--map-users=100000,0,65536" in ours
    assert "--map-root-user" not in ours
    for found in (ours, namespace.prefix(None)):
        assert {"--user", "--pid", "--fork", "--kill-child", "--mount"} <= set(found)
        assert found[-4:] == ("--", "setpriv", "--pdeathsig=KILL", "--")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["other:1:65536", "me:200000:65536"], 200000),
        (["1000:300000:100000"], 300000),
        (["me:200000:1000"], None),
        (["me", "me:", "me:x:y", ""], None),
        ([], None),
    ],
)
def test_ranges_of_subordinate_ids(lines: list[str], expected: int | None) -> None:
    assert namespace.find_range(lines, "me", 1000) == expected


def test_filesystems_have_fixed_names_inside() -> None:
    argv = filesystem.erofs_command(Path("t"), Path("f"), all_root=True)
    assert argv[-2:] == ["t", "f"]
    assert "--all-root" in argv
    assert any(argument.startswith("-U") for argument in argv)
    assert filesystem.environment(7)["SOURCE_DATE_EPOCH"] == "7"


def test_a_full_disk_is_told_from_other_failures() -> None:
    with pytest.raises(NoSpace, match=r"/some/where for mkfs"), reporting_no_space(Path("/some/where")):
        raise ProgramFailed(["mkfs"], 1, "write: No space left on device")
    with pytest.raises(ProgramFailed), reporting_no_space(Path("/some/where")):
        raise ProgramFailed(["mkfs"], 1, "bad luck")


def test_modules_are_unpacked() -> None:
    elf = b"\x7fELF module"
    assert unpacked("a.ko", elf) == unpacked("a.ko.xz", lzma.compress(elf)) == unpacked("a.ko.gz", gzip.compress(elf)) == elf
    assert unpacked_name("crc32c-generic.ko.zst") == "crc32c-generic.ko"
    for name, content in (("a.ko", b"text"), ("a.ko.xz", b"junk"), ("a.ko.gz", b"junk")):
        with pytest.raises(Refused, match=r"the module a\.ko"):
            unpacked(name, content)
