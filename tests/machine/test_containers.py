"""Jobs in machines of imported containers, which boot and which are cloned."""

from __future__ import annotations

import grp
import json
import os
import pwd
import shutil
import stat
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest

from dayfly.image.library import Library
from dayfly.image.reference import parse
from tests.framework.containers import TIME, file, folder, hard, layout, link, member, tar
from tests.framework.site import Site, allowing
from tests.machine.conftest import imported

HIGH = 1_337_000_003
CAPABILITY = struct.pack("<5I", 0x2000001, 1 << 10, 0, 0, 0)
EXTENDED = {
    "SCHILY.xattr.security.capability": CAPABILITY.decode("utf-8", "surrogateescape"),
    "SCHILY.xattr.user.note": "a note",
}
STARTS = pytest.mark.parametrize("start", ["--cold", ""])
SMALL = [
    tar(
        folder("bin"),
        file("bin/busybox", Path("/bin/busybox").read_bytes(), mode=0o755),
        *(link(f"bin/{name}", "busybox") for name in ("sh", "ls", "cat", "id", "env", "stat", "head")),
        file("srv/app", b'#!/bin/sh\necho "$0 $@"; pwd; echo "$PATH $MODE"; cat; exit 7\n', mode=0o755),
        file("gone"),
    ),
    tar(file(".wh.gone"), file("srv/data", b"data of the container\n", uid=HIGH, mode=0o644)),
]
RUN = {
    "Entrypoint": ["./app", "--flag"],
    "Cmd": ["two words"],
    "WorkingDir": "/srv",
    "Env": ["PATH=/bin", "MODE=container"],
    "User": "nobody",
}


def options(start: str, *more: str) -> list[str]:
    return [*([start] if start else []), *more]


@STARTS
def test_a_container_runs_as_it_would_run_by_itself(importing: Site, start: str) -> None:
    layout(importing.work / "small", *SMALL, tag="1", run=RUN)
    imported(importing, f"oci:{importing.work}/small:1")
    done = importing.dayfly(
        "run", "small:1", *options(start), stdin=b"typed\n", extra={"PATH": f"/host/bin:{os.environ['PATH']}"}
    )
    assert done.status == 7, done.err
    lines = done.out.decode().splitlines()
    assert lines[:2] == ["./app --flag two words", "/srv"]
    assert lines[2].startswith("/bin:/host/bin:")
    assert lines[2].endswith(" container")
    assert lines[3] == "typed"
    record = importing.record()
    assert record["command"] == ["./app", "--flag", "two words"]
    assert record["machine"]["start"] == ("cold" if start else "template")
    assert record["image"]["origin"] == f"oci:{importing.work}/small:1"


def test_a_policy_may_ask_where_a_container_came_from(importing: Site) -> None:
    layout(importing.work / "small", *SMALL, tag="1", run=RUN)
    imported(importing, f"oci:{importing.work}/small:1")
    allowing(importing, "docker://registry.example.org/*")
    assert "no rule is about the user" in importing.dayfly("run", "small:1").err
    allowing(importing, f"oci:{importing.work}/*")
    assert importing.dayfly("run", "small:1").status == 7
    assert importing.dayfly("run", "debian:12", "--", "true").status == 125


@STARTS
def test_a_command_runs_as_the_caller_where_the_caller_is(importing: Site, start: str) -> None:
    layout(importing.work / "small", *SMALL, tag="1", run=RUN)
    imported(importing, f"oci:{importing.work}/small:1")
    (importing.work / "mine").write_text("of the host")
    script = "pwd; id -u; cat mine; echo; cat /srv/data; stat -c %u /srv/data; ls /gone; echo $MODE; echo new > made"
    done = importing.dayfly("run", "small:1", *options(start, "--env", "MODE=own"), "--", "sh", "-c", script)
    assert done.out.decode().splitlines() == [
        str(importing.work),
        str(os.getuid()),
        "of the host",
        "data of the container",
        str(HIGH),
        "own",
    ]
    assert "/gone: No such file" in done.err
    assert (importing.work / "made").read_text() == "new\n"
    alone = importing.dayfly("run", "small:1", *options(start, "--no-share"), "--", "/bin/sh", "-c", "pwd")
    assert alone.out == b"/srv\n"


def test_a_container_without_a_command_needs_one(importing: Site) -> None:
    layout(importing.work / "small", *SMALL, tag="1")
    imported(importing, f"oci:{importing.work}/small:1")
    done = importing.dayfly("run", "small:1")
    assert (done.status, done.out) == (125, b"")
    assert "no command was given, and small:1 has no command of its own" in done.err


def test_a_container_with_nothing_but_a_program(importing: Site) -> None:
    """No /etc, no shell, no folder that is not needed."""
    program = file("busybox", Path("/bin/busybox").read_bytes(), mode=0o755)
    layout(importing.work / "bare", tar(program), tag="1", run={"Entrypoint": ["/busybox", "echo", "hello"]})
    imported(importing, f"oci:{importing.work}/bare:1")
    assert importing.dayfly("run", "bare:1").out == b"hello\n"
    assert importing.dayfly("run", "bare:1", "--", "/busybox", "id", "-u").out == f"{os.getuid()}\n".encode()


@STARTS
def test_what_a_container_says_of_its_folders_and_accounts(importing: Site, start: str) -> None:
    """The modules' filesystem, which has the same folders, and the machine's own layer do not hide whose they are.

    Accounts are added where a link leads, though nothing is there; and without a home, root starts where OCI says, in /.
    """
    program = file("bin/busybox", Path("/bin/busybox").read_bytes(), mode=0o755)
    folders = [folder("./", mode=0o1751, uid=5, gid=6), folder("usr", mode=0o700, uid=7), folder("usr/lib", mode=0o2775, gid=8)]
    links = [folder("etc"), link("etc/passwd", "../data/accounts/passwd"), link("etc/group", "/run/accounts/group")]
    layout(importing.work / "edge", tar(*folders, folder("bin"), program, *links), tag="1", run={"Env": ["PATH=/bin"]})
    imported(importing, f"oci:{importing.work}/edge:1")
    script = "stat -c '%a %u %g %Y' / /usr /usr/lib; pwd"
    done = importing.dayfly(
        "run", "edge:1", *options(start, "--user", "root", "--no-share"), "--", "/bin/busybox", "sh", "-c", script
    )
    assert done.out.decode().splitlines() == [f"1751 5 6 {TIME}", f"700 7 0 {TIME}", f"2775 0 8 {TIME}", "/"], done.err
    script = "cat /etc/group; readlink /etc/group; test $(id -u) = 0 || cat /data/accounts/passwd"
    done = importing.dayfly("run", "edge:1", *options(start), "--", "/bin/busybox", "sh", "-c", script)
    assert done.status == 0, done.err
    groups = [f"{grp.getgrgid(gid).gr_name}:x:{gid}:" for gid in dict.fromkeys((os.getgid(), *os.getgroups()))]
    accounts = [":".join(map(str, pwd.getpwuid(os.getuid())))] if os.getuid() else []
    assert done.out.decode().splitlines() == [*groups, "/run/accounts/group", *accounts]


@pytest.fixture(scope="session")
def debian(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A container of Debian, made of an image of Debian with umoci, and a layer on it."""
    if os.geteuid() != 0:
        pytest.skip("only root keeps the owners of files when it unpacks them")
    place = tmp_path_factory.mktemp("debian")
    with Library(library).open(parse("debian:12")) as image:
        subprocess.run(
            ["fsck.erofs", f"--extract={place}/root", "--preserve", image.root.path], check=True, stdout=subprocess.DEVNULL
        )
    subprocess.run(["tar", "-C", place / "root", "-cf", place / "lower.tar", "."], check=True)
    members = [
        file("opt/tricks/setuid", b"x", mode=0o4755),
        file("opt/tricks/setgid", b"x", mode=0o2755, gid=70_000),
        folder("opt/tricks/sticky", mode=0o1777),
        file("opt/tricks/capable", b"x", mode=0o755, pax_headers=EXTENDED),
        hard("opt/tricks/bash", "bin/bash"),
        link("opt/tricks/link", "../../etc/os-release", uid=12),
        member("opt/tricks/pipe", tarfile.FIFOTYPE, mode=0o620),
        file("bin/through-the-link", b"x"),
        file("etc/.wh.issue"),
        folder("usr/share/doc"),
        file("usr/share/doc/.wh..wh..opq"),
        file("usr/share/doc/new", b"x", mtime=1234567890),
    ]
    (place / "upper.tar").write_bytes(tar(*members))
    tag = f"{place}/lay:12"
    for command in (["init", "--layout", f"{place}/lay"], ["new", "--image", tag]):
        subprocess.run(["umoci", *command], check=True)
    for layer in ("lower", "upper"):
        subprocess.run(["umoci", "raw", "add-layer", "--image", tag, f"{place}/{layer}.tar"], check=True)
    shutil.rmtree(place / "root")
    return place / "lay"


LOOK = """
import json, os
def seen(path):
    about = os.lstat(path)
    return [about.st_mode, about.st_uid, about.st_gid, int(about.st_mtime)]
found = {name: seen("/opt/tricks/" + name) for name in os.listdir("/opt/tricks")}
found["linked"] = os.path.samefile("/opt/tricks/bash", "/usr/bin/bash")
found["link"] += [open("/opt/tricks/link").readline().strip()]
found["note"] = os.getxattr("/opt/tricks/capable", "user.note").decode()
found["capability"] = os.getxattr("/opt/tricks/capable", "security.capability").hex()
found["there"] = [os.path.exists(path) for path in ("/usr/bin/through-the-link", "/etc/issue", "/lib/modules")]
found["doc"] = [os.listdir("/usr/share/doc"), int(os.lstat("/usr/share/doc/new").st_mtime)]
print(json.dumps(found))
"""


@STARTS
def test_a_container_of_debian_has_all_of_its_files(importing: Site, debian: Path, start: str) -> None:
    imported(importing, f"oci:{debian}:12", "container:12")
    done = importing.dayfly("run", "container:12", *options(start), "--", "python3", "-c", LOOK)
    assert done.status == 0, done.err
    found = json.loads(done.out)
    assert found["setuid"][:3] == [stat.S_IFREG | 0o4755, 0, 0]
    assert found["setgid"][:3] == [stat.S_IFREG | 0o2755, 0, 70_000]
    assert found["sticky"][0] == stat.S_IFDIR | 0o1777
    assert found["pipe"][0] == stat.S_IFIFO | 0o620
    assert (found["link"][1], found["link"][4]) == (12, 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"')
    assert (found["linked"], found["note"], found["capability"]) == (True, "a note", CAPABILITY.hex())
    assert found["there"] == [True, False, True]
    assert found["doc"] == [["new"], 1234567890]
    shown = json.loads(importing.dayfly("image", "show", "container:12", "--json").out)
    assert shown["config"]["os"]["version"] == "12"
