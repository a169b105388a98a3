"""Machines that become images: what is kept and what is not, and what cannot become one."""

from __future__ import annotations

import itertools
import json
import os
import signal
import stat
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from dayfly.guest.initramfs import agent_archive
from dayfly.image.inspection.erofs import Erofs
from dayfly.image.inspection.tree import Tree
from dayfly.image.library import Library, OpenImage
from dayfly.image.reference import parse
from tests.framework.containers import file, folder, layout, link, tar
from tests.framework.hostile import boot_modules, compiled, hostile_image
from tests.framework.site import Finished, Site, eventually, moments

APPLETS = ("cat", "chmod", "cp", "echo", "find", "head", "ls", "mkdir", "mount", "rm", "sh", "sleep", "sort", "touch")
SMALL = tar(
    folder("bin"),
    file("bin/busybox", Path("/bin/busybox").read_bytes(), mode=0o755),
    *(link(f"bin/{name}", "busybox") for name in APPLETS),
    folder("etc"),
    file("etc/hostname", b"parent\n"),
    file("etc/hosts", b"127.0.0.1 localhost parent\n"),
    file("etc/resolv.conf", b"nameserver 192.0.2.1\n"),
    file("etc/ssh/ssh_host_rsa_key", b"the parent's\n"),
    folder("tmp", mode=0o1777),
    file("tmp/parents"),
)


@pytest.fixture
def small(importing: Site) -> Site:
    """A site with an image that is quickly saved, small:1."""
    layout(importing.work / "small", SMALL, tag="1", run={"Env": ["PATH=/bin", "MODE=small"], "Labels": {"a": "b"}})
    done = importing.dayfly("image", "import", f"oci:{importing.work}/small:1")
    assert done.status == 0, done.err
    return importing


def saved(site: Site, script: str, *options: str, name: str = "saved:1", **more: Any) -> Finished:
    return site.dayfly("run", "small:1", "--save-as", name, *options, "--", "sh", "-c", script, **more)


def names(site: Site) -> set[str]:
    return {listed.name for listed in Library(site.work / "library").images()}


def opened(site: Site, name: str) -> OpenImage:
    return Library(site.work / "library").open(parse(name))


def files_of(site: Site, name: str) -> dict[str, tuple[int, int, int, int]]:
    """The mode, owners and size of all that is in an image's root."""
    with opened(site, name) as image:
        found = {path.decode().removeprefix("/"): inode for path, inode in Tree(Erofs(image.root.file)).walk()}
        return {path: (inode.mode, inode.uid, inode.gid, inode.size * inode.is_file) for path, inode in found.items()}


def nothing_left(site: Site) -> None:
    assert "saved:1" not in names(site)

    def swept() -> bool:
        """As soon as the last program that worked there has died."""
        assert site.dayfly("image", "gc").status == 0
        return not list((site.work / "library/.dayfly/work").glob("[0-9a-f]*"))

    eventually(swept)


def test_what_is_kept_and_what_is_the_machines_own(small: Site) -> None:
    before = files_of(small, "small:1")
    (small.work / "deep/er").mkdir(parents=True)
    script = (
        "echo x > /tmp/x; echo 10.0.0.1 more >> /etc/hosts; echo k > /etc/ssh/ssh_host_dsa_key; echo x > /run/x; touch /etc/new;"
        "cat /etc/hostname /etc/machine-id; find /tmp /etc/ssh; rm -r /etc/ssh; echo in the share > deep/er/file"
    )
    share = str(small.work / "deep/er")
    done = saved(small, script, "--share", share, "--cold")
    assert done.status == 0, done.err
    assert "saved:1 is ready" in done.err
    after = files_of(small, "saved:1")
    assert {path: about for path, about in after.items() if path not in before} == {"etc/new": (stat.S_IFREG | 0o644, 0, 0, 0)}
    assert {path for path in before if path not in after} == set()
    assert {path for path, about in after.items() if before.get(path) not in (None, about)} == set()
    with opened(small, "small:1") as parent, opened(small, "saved:1") as image:
        assert [blob.digest for blob in image.blobs[1:]] == [blob.digest for blob in parent.blobs[1:]]
        assert image.config.environment == {"PATH": "/bin", "MODE": "small"}
        assert image.config.labels == {"a": "b"}
        assert image.config.kernel == parent.config.kernel
    shown = json.loads(small.dayfly("image", "show", "saved:1", "--json").out)
    assert shown["config"]["parent"] == {"digest": parent.digest, "name": "small:1"}
    assert shown["config"]["recipe"] == ""
    assert f"parent:         small:1, {parent.digest}" in small.dayfly("image", "show", "saved:1").out.decode()
    cloned = saved(small, script, "--share", share, name="cloned:1")
    assert cloned.status == 0, cloned.err
    assert small.record()["machine"]["start"] == "template"
    assert files_of(small, "cloned:1") == after
    phases = small.record()["phases"]
    assert phases["exited"] < phases["captured"] < phases["gone"]
    again = small.dayfly("run", "cloned:1", "--save-as", "saved:1", "--", "sh", "-c", "echo $MODE > /etc/second")
    assert again.status == 0, again.err
    shown = json.loads(small.dayfly("image", "show", "saved:1", "--json").out)
    assert shown["config"]["parent"]["name"] == "cloned:1"
    assert files_of(small, "saved:1")["etc/second"][3] == len("small\n")


CHANGE = r"""
import os, shutil, struct
def write(path, content=b"x\n", mode=0o644, owner=(0, 0)):
    with open(path, "wb") as file:
        file.write(content)
    os.chown(path, *owner)
    os.chmod(path, mode)
top = "/opt/new/"
os.makedirs(top + "d" * 120 + "/" + "e" * 120)
write(top + "d" * 120 + "/" + "e" * 120 + "/" + "f" * 200)
write(os.fsencode(top) + b"\xff\xfe odd\nname")
write(top + "setuid", mode=0o4755, owner=(33, 33))
os.utime(top + "setuid", (1e9, 1e9))
write(top + "owned", mode=0o640, owner=(4711, 2_000_000_000))
os.setxattr(top + "owned", "user.note", b"a \xff note")
os.link(top + "owned", top + "linked")
write(top + "capable", mode=0o755)
os.setxattr(top + "capable", "security.capability", struct.pack("<5I", 0x2000001, 1 << 13, 0, 0, 0))
os.symlink("../x/" + "y" * 150, top + "dangling")
os.mkfifo(top + "fifo")
os.mkdir(top + "sticky")
os.chmod(top + "sticky", 0o1777)
with open(top + "sparse", "wb") as file:
    file.truncate(300 << 20)
    for at in range(1, 31):
        file.seek(at * 10_000_000)
        file.write(b"middle")
write(top + "large", bytes(range(256)) * 81920 + b"end")
shutil.rmtree("/etc/cron.daily")
os.mkdir("/etc/cron.daily")
write("/etc/cron.daily/only")
os.remove("/usr/bin/xz")
os.remove("/etc/debian_version")
os.symlink("os-release", "/etc/debian_version")
write("/usr/bin/zstd", b"#!/bin/sh\necho replaced\n", 0o755)
os.link("/etc/issue", top + "link to a file of the image")
os.link("/etc/issue", top + "and another")
os.link("/usr/bin/yes", "/usr/bin/.wh.yes")
write("/usr/bin/head")
os.mkdir("/usr/share/doc/.wh..wh..opq")
write("/usr/share/doc/.wh..wh..opq/.wh.x")

import random
dice = random.Random("captured")
def name():
    text = bytes(dice.choice(list(range(1, 47)) + list(range(48, 256))) for _ in range(dice.choice([1, 3, 20, 254])))
    return dice.choice([text, b".wh." + text[:250], b".wh..wh..opq", b".wh."]) if text not in (b".", b"..") else b"dot"
folders, files = [os.fsencode(top)], []
for number in range(400):
    path = os.path.join(dice.choice(folders), name())
    if os.path.lexists(path) or len(path) > 2000:
        continue
    kind = dice.choice(["folder", "file", "file", "hole", "link", "hard", "hard", "fifo"])
    if kind == "folder":
        os.mkdir(path)
        folders.append(path)
    elif kind in ("file", "hole"):
        write(path, dice.randbytes(dice.randrange(9000)))
        if kind == "hole":
            with open(path, "r+b") as file:
                file.seek(dice.randrange(1 << 20))
                file.write(dice.randbytes(dice.randrange(9000)))
        os.setxattr(path, "user.overlay.\u00e4", dice.randbytes(20))
        files.append(path)
    elif kind == "link":
        os.symlink(name(), path)
    elif kind == "hard" and files:
        os.link(dice.choice(files), path)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        continue
    os.chown(path, dice.choice([0, 33, 1000, 2_000_000_001]), dice.choice([0, 5, 4_000_000_000]), follow_symlinks=False)
    if kind != "link":
        os.chmod(path, dice.choice([0o644, 0o4711, 0o2750, 0o1777, 0o600]))
    if kind != "folder":
        os.utime(path, (0, dice.randrange(-(2**31), 2**33)), follow_symlinks=False)
for path in reversed(folders[1:]):
    os.utime(path, (0, dice.randrange(-(2**31), 2**33)))
"""
LOOK = r"""
import hashlib, json, os
def about(path):
    try:
        s = os.lstat(path)
    except FileNotFoundError:
        return None
    kind, told = s.st_mode & 0o170000, [oct(s.st_mode), s.st_uid, s.st_gid]
    if path.endswith(b"sparse"):
        with open(path, "rb") as file:
            told += [s.st_size, [os.pread(file.fileno(), 8, at * 10_000_000 - 1).hex() for at in range(1, 31)]]
    elif kind == 0o100000:
        with open(path, "rb") as file:
            told += [s.st_nlink, s.st_size, int(s.st_mtime), hashlib.sha256(file.read()).hexdigest()]
    elif kind == 0o120000:
        told += [int(s.st_mtime), repr(os.readlink(path))]
    else:
        told.append(int(s.st_mtime))
    names = os.listxattr(path, follow_symlinks=False)
    return [*told, {name: os.getxattr(path, name, follow_symlinks=False).hex() for name in names}]
paths = [os.path.join(at, name) for at, folders, files in os.walk(b"/opt/new") for name in folders + files]
paths += [b"/etc/cron.daily", b"/etc/cron.daily/only", b"/etc/debian_version", b"/usr/bin/xz", b"/usr/bin/zstd"]
links = {}
for path in sorted(paths):
    if os.path.lexists(path) and not os.path.isdir(path) and b" of the image" not in path and b"another" not in path:
        s = os.lstat(path)
        links.setdefault((s.st_dev, s.st_ino), []).append(repr(path))
paths += [b"/etc/issue", b"/usr/bin/yes", b"/usr/bin/.wh.yes", b"/usr/share/doc/.wh..wh..opq/.wh.x"]
of_image = [b"/etc/issue", b"/opt/new/link to a file of the image", b"/opt/new/and another"]
same = [os.path.samefile(of_image[0], path) for path in of_image] + [os.path.samefile("/usr/bin/yes", "/usr/bin/.wh.yes")]
told = {repr(path): about(path) for path in sorted(paths)}
print(json.dumps([told, os.listdir("/etc/cron.daily"), sorted(links.values()), same]))
"""


def test_all_kinds_of_changes_and_the_image_runs(importing: Site) -> None:
    done = importing.dayfly("run", "debian:12", "--save-as", "changed", "--", "python3", "-c", f"{CHANGE}\n{LOOK}")
    assert done.status == 0, done.err
    inside = importing.dayfly("run", "changed:latest", "--cold", "-u", "root", "--", "python3", "-c", LOOK)
    assert inside.status == 0, inside.err
    assert json.loads(inside.out)[:3] == json.loads(done.out)[:3]
    found, _, links, same = json.loads(inside.out)
    assert len(found) > 200
    assert max(map(len, links)) > 2
    assert same == [True] * 4, "hard links to files of the image (a machine's overlay has several numbers for some)"
    assert found["b'/usr/bin/.wh.yes'"] is not None
    assert found["b'/usr/bin/xz'"] is None
    assert found["b'/opt/new/setuid'"][:3] == ["0o104755", 33, 33]
    assert found["b'/opt/new/owned'"][1:4] == [4711, 2_000_000_000, 2]
    assert found["b'/opt/new/sparse'"][3:] == [300 << 20, [b"\0middle\0".hex()] * 30, {}]
    assert "security.capability" in found["b'/opt/new/capable'"][-1]
    with opened(importing, "changed:latest") as image:
        assert image.root.size < 90 << 20, "holes are not stored"


def test_the_images_own_init_runs(importing: Site) -> None:
    script = "echo kept > /etc/kept; cat /etc/machine-id; ps -o comm= -p 1"
    done = importing.dayfly("run", "debian:12-system", "--save-as", "whole:1", "--", "sh", "-c", script)
    assert done.status == 0, done.err
    assert done.out.split()[1] == b"systemd"
    before, after = files_of(importing, "debian:12-system"), files_of(importing, "whole:1")
    assert after["etc/kept"][3] == 5
    for path in ("etc/machine-id", "etc/hostname", "etc/hosts", "run", "tmp", "dev", "proc"):
        assert after[path] == before[path], path
    assert not [path for path in after if path.startswith(("run/", "tmp/", "dev/", "proc/", "etc/ssh/ssh_host_"))]
    assert opened(importing, "whole:1").config.boot == "system"


def test_a_job_that_failed(small: Site) -> None:
    done = saved(small, "touch /etc/new; exit 3")
    assert done.status == 3
    assert done.err == "dayfly: no image was saved: the job ended with status 3 (use --save-failed to save it anyway)\n"
    nothing_left(small)
    done = saved(small, "touch /etc/new; exit 3", "--save-failed")
    assert done.status == 3
    assert "etc/new" in files_of(small, "saved:1")


def test_a_job_that_ran_out_of_time_or_switched_its_machine_off(small: Site) -> None:
    done = saved(small, "touch /etc/new; sleep 60", "--timeout", "10s", "--save-failed")
    assert done.status == 124
    assert "etc/new" in files_of(small, "saved:1")
    done = saved(small, "echo o > /proc/sysrq-trigger; sleep 60", "--save-failed", name="off:1")
    assert done.status == 125
    assert "off:1" not in names(small)


@pytest.mark.timeout(600)
def test_ended_at_any_moment(small: Site, rounds: int) -> None:
    """Nothing half is left, whatever signal ends it and whenever; and the next one works."""
    saved(small, "true", name="first:1")
    for moment, number in itertools.product(moments(rounds, 1.6), (signal.SIGKILL, signal.SIGTERM)):
        with small.start("run", "small:1", "--save-as", "saved:1", "--", "sh", "-c", "true") as process:
            time.sleep(moment)
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        assert b"Traceback" not in err
        assert process.returncode in (0, -number, 128 + number), err
        if process.returncode == 0 or "saved:1" in names(small):  # it was there before the signal
            assert small.dayfly("image", "verify", "user/saved:1").status == 0
            assert small.dayfly("image", "remove", "user/saved:1").status == 0
        nothing_left(small)
    assert saved(small, "true").status == 0


def test_a_full_disk(small: Site) -> None:
    work = small.work / "library/.dayfly/work"
    script = f'mount -t tmpfs -o size=300k,mode=0755 small "{work}" && exec "$@"'
    done = saved(small, "true", before=["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
    assert done.status == 125
    assert "no space" in done.err.lower()
    assert "Traceback" not in done.err
    nothing_left(small)


def test_what_the_policy_denies(small: Site) -> None:
    (small.work / "policy.toml").write_text('[[rule]]\naction = "allow"\nlimits = { capture = false }\n')
    done = saved(small, "true")
    assert done.status == 125
    assert "to capture the machine as an image" in done.err
    nothing_left(small)


# The machine is its user's: the job takes the agent's place


def evil(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    return tar(*members)


def claiming(size: int) -> bytes:
    """An archive with a file that says it has so many bytes, and has none."""
    info = tarfile.TarInfo("big")
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


def hollow(size: int) -> bytes:
    """A file that is nothing but a hole (GNU tar's old form)."""
    buffer = bytearray(512)
    buffer[:3] = b"big"
    buffer[100:108] = b"0000644\0"
    buffer[108:116] = buffer[116:124] = b"0000000\0"
    buffer[124:136] = buffer[136:148] = b"00000000000\0"
    buffer[156:157] = b"S"
    buffer[257:265] = b"ustar  \0"
    buffer[483:495] = b"\x80" + size.to_bytes(11, "big")
    buffer[148:156] = b"%06o\0 " % (sum(buffer) + 8 * 32)
    return bytes(buffer) + bytes(1024)


ATTACKS = {
    "garbage": os.urandom(100_000),
    "nothing": b"",
    "half": SMALL[: len(SMALL) // 3],
    "a way out": evil(file("../../../../../../tmp/dayfly-escaped", b"x")),
    "a way out by a link": evil(
        link("out", "/tmp"), file("out/dayfly-escaped", b"x"), link("etc", "/etc"), file("etc/dayfly-escaped")
    ),
    "a lie": claiming(1 << 40),
    "a hole": hollow(1 << 60),
    "no usr": evil(file("usr", b"")),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_archive_that_is_the_jobs(small: Site, attack: str) -> None:
    (small.work / "evil.tar").write_bytes(ATTACKS[attack])
    (small.work / "agent").write_text("#!/bin/busybox sh\ncat /evil.tar\n")
    take = "cp evil.tar agent /; mount -t tmpfs none /proc; mkdir /proc/1; cp /agent /proc/1/exe; chmod 755 /proc/1/exe"
    done = saved(small, take)
    assert not Path("/tmp/dayfly-escaped").exists()
    assert not Path("/etc/dayfly-escaped").exists()
    assert "Traceback" not in done.err
    if attack in ("a way out by a link", "nothing"):  # harmless: the links lead nowhere but in the image
        assert (done.status == 0) == ("saved:1" in names(small)), done.err
        return
    assert done.status == 125, done.err
    assert "the machine's files cannot become an image" in done.err
    nothing_left(small)


PLAYS_ALONG = "hello(3); stage(1); stage(2); wait_for(0x41); started(); end(1); end(2); exited(); wait_for(0x4a);"
BREAKING = {
    "another end": "exited();",
    "an end before the start": "stage(2); wait_for(0x41); exited();",
    "off": "reboot(0x4321fedc);",
}


@pytest.mark.parametrize("attack", BREAKING)
def test_a_guest_that_breaks_the_protocol_while_it_is_saved(importing: Site, attack: str) -> None:
    program = compiled(importing.work, PLAYS_ALONG + BREAKING[attack])
    reachable = f"/var/tmp/dayfly-test-{os.getpid()}"
    hostile_image(importing, "hostile", boot_modules(importing) + agent_archive(program), scratch_folder=reachable)
    done = importing.dayfly("run", "hostile", "--save-as", "saved:1", "--cold", "--", "true")
    assert done.status == 125, done.err
    assert done.err.startswith("dayfly: no image was saved: ")
    assert all(line.startswith("  | ") for line in done.err.splitlines()[1:])
    assert "saved:1" not in names(importing)


def test_names(small: Site) -> None:
    for name, told in (
        ("system/x:1", "only to your own library"),
        ("Bad:1", "names no image"),
        ("x@sha256:" + "a" * 64, "is not a valid name"),
    ):
        done = saved(small, "true", name=name)
        assert done.status == 125
        assert told in done.err
    assert small.dayfly("run", "small:1", "--save-failed", "--", "true").status == 125
