"""The archive of a root, before and after."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from dayfly.errors import Refused
from dayfly.image.manifest import OperatingSystem
from dayfly.image.reference import Name
from dayfly.imagebuild.accounts import Accounts
from dayfly.imagebuild.recipe import Recipe, RecipeFile, RecipeUser
from dayfly.imagebuild.root import RootFacts, finish, parse_os_release

DATE = 1767225600  # 2026-01-01
RECIPE = Recipe(Name("a"), "debian", "bookworm", DATE, kernel="bookworm")
PASSWD = "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
GROUP = "root:x:0:\nstaff:x:50:\nusers:x:100:other\n"
SHADOW = "root:*:20400:0:99999:7:::\ndaemon:*:20400:0:99999:7:::\n"
ROOT: Mapping[str, bytes | str | None] = {
    ".": None,
    "bin": "usr/bin",
    "lib": "usr/lib",
    "usr": None,
    "usr/bin": None,
    "usr/bin/tool": b"tool",
    "usr/lib": None,
    "usr/lib/os-release": b'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n',
    "etc": None,
    "etc/os-release": "../usr/lib/os-release",
    "etc/passwd": PASSWD.encode(),
    "etc/passwd-": b"backup",
    "etc/group": GROUP.encode(),
    "etc/shadow": SHADOW.encode(),
    "etc/gshadow": b"root:*::\nstaff:*::\nusers:*::\n",
    "etc/skel": None,
    "etc/skel/.profile": b"umask 022\n",
    "etc/machine-id": b"0123456789abcdef0123456789abcdef\n",
    "etc/hostname": b"builder\n",
    "etc/resolv.conf": b"nameserver 192.0.2.1\n",
    "etc/apt": None,
    "etc/apt/apt.conf.d": None,
    "etc/apt/apt.conf.d/99mmdebstrap": b'Acquire::http::Proxy "http://proxy.example";\n',
    "etc/apt/apt.conf.d/70debconf": b"kept\n",
    "etc/apt/sources.list": b"deb http://mirror.example/debian bookworm main\n",
    "dev": None,
    "dev/null": b"",
    "run": None,
    "run/lock": None,
    "tmp": None,
    "tmp/left": b"x",
    "var": None,
    "var/lib": None,
    "var/lib/apt": None,
    "var/lib/apt/lists": None,
    "var/lib/apt/lists/partial": None,
    "var/lib/apt/lists/lock": b"",
    "var/cache": None,
    "var/cache/ldconfig": None,
    "var/cache/ldconfig/aux-cache": b"random",
    "var/log": None,
    "var/log/apt": None,
    "var/log/apt/history.log": b"today\n",
    "var/log/lastlog": b"\0",
    "boot": None,
    "boot/initrd.img-6.1": b"large",
    "home": None,
}


def archive(path: Path, entries: Mapping[str, bytes | str | None] = ROOT, mtime: int = DATE + 1000) -> Path:
    """A tar archive: bytes are files, text is a symbolic link, None is a folder."""
    with tarfile.open(path, "w") as output:
        for name, value in entries.items():
            member = tarfile.TarInfo(name if name == "." else f"./{name}")
            member.mtime, member.mode = mtime, 0o755
            if isinstance(value, bytes):
                member.size, member.mode = len(value), 0o640 if "shadow" in name else 0o644
                member.gid = 42 if "shadow" in name else 0
            elif isinstance(value, str):
                member.type, member.linkname = tarfile.SYMTYPE, value
            else:
                member.type = tarfile.DIRTYPE
            output.addfile(member, io.BytesIO(value) if isinstance(value, bytes) else None)
    return path


def finished(folder: Path, recipe: Recipe = RECIPE, entries: Mapping[str, bytes | str | None] = ROOT) -> tuple[RootFacts, bytes]:
    target = io.BytesIO()
    facts = finish(archive(folder / "root.tar", entries), target, recipe, ["deb http://mirror.example/debian bookworm main"])
    return facts, target.getvalue()


def contents(content: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(content)) as opened:
        return {member.name.removeprefix("./"): member for member in opened}


def text(content: bytes, path: str) -> str:
    with tarfile.open(fileobj=io.BytesIO(content)) as opened:
        file = opened.extractfile(f"./{path}")
        assert file
        return file.read().decode()


def test_what_tells_of_the_build_is_gone(tmp_path: Path) -> None:
    facts, content = finished(tmp_path)
    members = contents(content)
    gone = {"dev/null", "run/lock", "tmp/left", "var/lib/apt/lists/lock", "var/cache/ldconfig/aux-cache", "etc/passwd-"}
    gone |= {
        "var/lib/apt/lists/partial",
        "var/log/apt/history.log",
        "var/log/lastlog",
        "boot/initrd.img-6.1",
        "etc/apt/apt.conf.d/99mmdebstrap",
    }
    assert not gone & set(members)
    kept = {
        "dev",
        "run",
        "tmp",
        "var/log/apt",
        "var/lib/apt/lists",
        "etc/apt/apt.conf.d/70debconf",
        "usr/bin/tool",
        "bin",
        ".",
    }
    assert kept <= set(members)
    assert text(content, "etc/machine-id") == text(content, "etc/resolv.conf") == ""
    assert text(content, "etc/hostname") == "localhost\n"
    assert text(content, "etc/apt/sources.list") == "deb http://mirror.example/debian bookworm main\n"
    assert "builder" not in content.decode(errors="replace")
    assert facts.os == OperatingSystem("debian", "12", "Debian GNU/Linux 12 (bookworm)")
    assert facts.size == sum(member.size for member in members.values())


def test_nothing_is_younger_than_the_recipes_date(tmp_path: Path) -> None:
    old = archive(tmp_path / "old.tar", mtime=DATE - 5)
    target = io.BytesIO()
    finish(old, target, RECIPE, [])
    members = contents(target.getvalue())
    assert members["usr/bin/tool"].mtime == DATE - 5
    assert max(member.mtime for member in members.values()) == DATE
    _, content = finished(tmp_path)
    assert {member.mtime for member in contents(content).values()} == {DATE}


def test_passwords_were_last_changed_on_the_recipes_date(tmp_path: Path) -> None:
    _, content = finished(tmp_path)
    assert text(content, "etc/shadow").splitlines()[0] == f"root:*:{DATE // 86400}:0:99999:7:::"
    shadow = contents(content)["etc/shadow"]
    assert (shadow.mode, shadow.gid) == (0o640, 42)


def test_users_come_with_their_group_and_home(tmp_path: Path) -> None:
    worker = RecipeUser("worker", 1000, 1000, "/home/worker", "/bin/bash", ("staff", "users"))
    second = RecipeUser("second", 1001, 100, "/srv/data/second", "/bin/sh")
    _, content = finished(tmp_path, replace(RECIPE, users=(worker, second)))
    members = contents(content)
    assert text(content, "etc/passwd").splitlines()[2:] == [
        "worker:x:1000:1000::/home/worker:/bin/bash",
        "second:x:1001:100::/srv/data/second:/bin/sh",
    ]
    assert text(content, "etc/group").splitlines() == [
        "root:x:0:",
        "staff:x:50:worker",
        "users:x:100:other,worker",
        "worker:x:1000:",
    ]
    assert "worker:!:20454:0:99999:7:::" in text(content, "etc/shadow")
    assert (members["home/worker"].uid, members["home/worker"].gid, members["home/worker"].type) == (1000, 1000, tarfile.DIRTYPE)
    assert members["home/worker/.profile"].uid == 1000
    assert members["srv/data"].uid == 0
    assert members["srv/data/second"].uid == 1001


@pytest.mark.parametrize(
    ("user", "message"),
    [
        (RecipeUser("daemon", 1000, 1000, "/home/x", "/bin/sh"), "has a user daemon"),
        (RecipeUser("x", 1, 1000, "/home/x", "/bin/sh"), "has a user daemon"),
        (RecipeUser("staff", 1000, 1000, "/home/x", "/bin/sh"), "has a group staff with"),
        (RecipeUser("x", 1000, 1000, "/home/x", "/bin/sh", ("none",)), "no group none"),
    ],
)
def test_users_that_the_image_cannot_have_are_refused(tmp_path: Path, user: RecipeUser, message: str) -> None:
    with pytest.raises(Refused, match=message):
        finished(tmp_path, replace(RECIPE, users=(user,)))


def test_files_are_added_and_replaced_where_links_lead(tmp_path: Path) -> None:
    files = (
        RecipeFile("/bin/new", b"new", 0o755),
        RecipeFile("/bin/tool", b"other", 0o4755, "daemon", "staff"),
        RecipeFile("/opt/a/b/c", b"deep"),
        RecipeFile("/etc/os-release", b"ID=mine\n"),
        RecipeFile("/etc/hostname", b"mine\n"),
    )
    facts, content = finished(tmp_path, replace(RECIPE, files=files))
    members = contents(content)
    assert "bin/new" not in members
    assert members["usr/bin/new"].mode == 0o755
    tool = members["usr/bin/tool"]
    assert (tool.mode, tool.uid, tool.gid, tool.size) == (0o4755, 1, 50, 5)
    assert {"opt", "opt/a", "opt/a/b"} <= {name for name, member in members.items() if member.isdir()}
    assert members["etc/os-release"].isreg()
    assert text(content, "etc/hostname") == "mine\n"
    assert facts.os.pretty_name


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (RecipeFile("/usr/bin", b""), "is a folder in the image"),
        (RecipeFile("/a", b"", owner="nobody-here"), "no user nobody-here"),
        (RecipeFile("/a", b"", group="nobody-here"), "no group nobody-here"),
        (RecipeFile("/loop/a", b""), "through a loop of links"),
    ],
)
def test_files_that_the_image_cannot_have_are_refused(tmp_path: Path, file: RecipeFile, message: str) -> None:
    with pytest.raises(Refused, match=message):
        finished(tmp_path, replace(RECIPE, files=(file,)), {**ROOT, "loop": "loop2", "loop2": "loop"})


def test_an_archive_that_leads_outside_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"\.\./\.\./etc/passwd"):
        finished(tmp_path, entries={**ROOT, "../../etc/passwd": b""})


def test_hard_links_and_attributes_are_kept(tmp_path: Path) -> None:
    source = tmp_path / "root.tar"
    archive(source)
    with tarfile.open(source, "a", format=tarfile.PAX_FORMAT) as output:
        link = tarfile.TarInfo("./usr/bin/same")
        link.type, link.linkname = tarfile.LNKTYPE, "./usr/bin/tool"
        output.addfile(link)
        capable = tarfile.TarInfo("./usr/bin/ping")
        capable.pax_headers = {"SCHILY.xattr.security.capability": "\1\0\0\2\0", "atime": "123.45"}
        output.addfile(capable)
    target = io.BytesIO()
    finish(source, target, RECIPE, [])
    members = contents(target.getvalue())
    assert (members["usr/bin/same"].type, members["usr/bin/same"].linkname) == (tarfile.LNKTYPE, "./usr/bin/tool")
    assert members["usr/bin/ping"].pax_headers == {"SCHILY.xattr.security.capability": "\1\0\0\2\0"}


def test_the_same_root_gives_the_same_bytes(tmp_path: Path) -> None:
    assert finished(tmp_path) == finished(tmp_path)


def test_os_release_is_read_with_and_without_quotes() -> None:
    assert parse_os_release("ID=x\nVERSION_ID='1'\n# ID=y\nPRETTY_NAME=\"A B\"\nnonsense\n") == OperatingSystem("x", "1", "A B")
    assert parse_os_release("") == OperatingSystem("linux")


def test_accounts_survive_being_read_and_written() -> None:
    texts = {"etc/passwd": PASSWD, "etc/group": GROUP, "etc/shadow": SHADOW, "etc/gshadow": ""}
    assert Accounts.read(texts).write() == texts
    assert Accounts.read(texts).uid("42") == 42
