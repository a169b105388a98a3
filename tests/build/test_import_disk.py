"""Disks in all formats, made by qemu-img, mke2fs, sfdisk and by hand, imported by the command."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import json
import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.build.conftest import Imports, Registry, as_another_user, run
from tests.framework.disks import MIB, TIME, Partition, assemble, ext
from tests.framework.headers import gpt, qcow2, vmdk
from tests.framework.kernels import bzimage, elf
from tests.framework.site import eventually

from dayfly.guest.boot import BootMode
from dayfly.guest.initramfs import member
from dayfly.image.library import Library, Source
from dayfly.image.manifest import ImageConfig, OperatingSystem, Role
from dayfly.image.reference import Name, parse
from dayfly.imagebuild.modules import NEEDED

LINUX, EFI = "0FC63DAF-8483-4772-8E79-3D69D8477DE4", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
BIOS = "21686148-6449-6E6F-744E-656564454649"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a small system without a kernel of its own."""
    root = tmp_path_factory.mktemp("disk") / "root"
    for name in ("etc", "bin", "usr/lib", "srv"):
        (root / name).mkdir(parents=True)
    (root / "etc/os-release").write_text('ID=tiny\nVERSION_ID=1\nPRETTY_NAME="Tiny 1"\n')
    (root / "etc/fstab").write_text(
        "LABEL=a / ext4 defaults 0 1\nLABEL=b /home xfs defaults 0 2\n"
        "LABEL=d /\33[31m xfs defaults 0 2\nLABEL=c /boot ext4 defaults 0 2\n"
    )
    shutil.copy("/bin/busybox", root / "bin/busybox")
    (root / "bin/sh").symlink_to("busybox")
    (root / "srv/secret").write_text("secret")
    (root / "srv/secret").chmod(0o4710)
    os.link(root / "srv/secret", root / "srv/linked")
    for path in [*root.rglob("*"), root]:
        os.utime(path, (TIME, TIME), follow_symlinks=False)
    return root


@pytest.fixture(scope="module")
def filesystem(folder: Path) -> Path:
    return ext(folder.parent / "root.img", folder, 16)


@pytest.fixture(scope="module")
def raw(filesystem: Path) -> Path:
    """A raw disk with a GPT, whose first sector a BIOS would start."""
    disk = assemble(filesystem.parent / "disk.raw", 20, [Partition(2, 16, LINUX, 1, filesystem), Partition(1, 1, BIOS, 14)])
    with disk.open("r+b") as file:
        file.write(b"\xeb\xfe boot me")
    return disk


def converted(raw: Path, target: Path, form: str, *options: str) -> Path:
    if not target.exists():
        run("qemu-img", "convert", "-f", "raw", "-O", form, *options, raw, target)
    return target


def archive(target: Path, *members: tuple[str, bytes], **about: Any) -> Path:
    """A tar archive; `about` is the last member's TarInfo."""
    with tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as opened:
        for number, (name, content) in enumerate(members, start=1):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for attribute, value in about.items() if number == len(members) else ():
                setattr(info, attribute, value)
            opened.addfile(info, io.BytesIO(content))
    return target


def ova(raw: Path, target: Path, said: str = "") -> Path:
    disk = converted(raw, target.with_suffix(".vmdk"), "vmdk", "-o", "subformat=streamOptimized").read_bytes()
    digest = said or hashlib.sha256(disk).hexdigest()
    description = b"<Envelope/>"
    manifest = f"SHA256(a.ovf)= {hashlib.sha256(description).hexdigest()}\nSHA256(a-disk1.vmdk)= {digest}\n".encode()
    return archive(target, ("a.ovf", description), ("a.mf", manifest), ("a-disk1.vmdk", disk))


FORMATS: dict[str, Callable[[Path, Path], Path]] = {
    "raw": lambda raw, folder: raw,
    "qcow2": lambda raw, folder: converted(raw, folder / "d.qcow2", "qcow2", "-c"),
    "old qcow2": lambda raw, folder: converted(raw, folder / "d.img", "qcow2", "-o", "compat=0.10"),
    "vmdk": lambda raw, folder: converted(raw, folder / "d.vmdk", "vmdk"),
    "vmdk stream": lambda raw, folder: converted(raw, folder / "s.vmdk", "vmdk", "-o", "subformat=streamOptimized"),
    "vdi": lambda raw, folder: converted(raw, folder / "d.vdi", "vdi"),
    "ova": lambda raw, folder: ova(raw, folder / "d.ova"),
}


def shown(imports: Imports, name: str) -> dict[str, Any]:
    done = imports.run("show", name, "--json")
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_a_disk_is_the_same_image_in_whatever_format(imports: Imports, raw: Path, tmp_path: Path, secure_server: Server) -> None:
    found = {name: make(raw, tmp_path) for name, make in FORMATS.items()}
    digests = {name: imports.imported(f"disk:{path}", f"{name.replace(' ', '-')}:1") for name, path in found.items()}
    assert set(digests.values()) == {digests["raw"]}
    about = shown(imports, "vdi:1")
    assert {origin["source"] for origin in about["origins"]} == {f"disk:{path}" for path in found.values()}
    sums = {f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in found.values()}
    assert {origin["digest"] for origin in about["origins"]} == sums
    assert about["config"]["os"] == {"id": "tiny", "version": "1", "pretty_name": "Tiny 1"}
    assert about["config"]["boot"] == "agent"
    assert about["config"]["created"] == "2023-11-14T22:13:20Z"
    wanted = hashlib.sha512(found["qcow2"].read_bytes()).hexdigest()
    served = secure_server.serving(found["qcow2"].read_bytes())
    options = ("--ca", secure_server.ca, "--sha512", wanted)
    assert imports.imported(f"{served}?token=secret", "fetched:1", *options) == digests["raw"]
    assert served in [origin["source"] for origin in shown(imports, "fetched:1")["origins"]]


def test_its_files_are_as_they_were(imports: Imports, raw: Path, folder: Path, tmp_path: Path) -> None:
    imports.imported(raw, "tiny:1")
    with imports.library.open(parse("tiny:1")) as image:
        assert image.config.kernel.version == "6.1.0-44-amd64"
        assert "fstab=no" in image.config.kernel.command_line
        run("fsck.erofs", f"--extract={tmp_path}/root", "--preserve", image.root.path)
    for path in folder.rglob("*"):
        ours, theirs = (tmp_path / "root" / path.relative_to(folder)).lstat(), path.lstat()
        assert (ours.st_mode & ~0o6000, ours.st_size * stat.S_ISREG(ours.st_mode)) == (
            theirs.st_mode & ~0o6000,
            theirs.st_size * stat.S_ISREG(theirs.st_mode),
        )
        assert int(ours.st_mtime) == TIME
    assert (tmp_path / "root/bin/busybox").read_bytes() == Path("/bin/busybox").read_bytes()


@pytest.mark.parametrize("table", ["dos", ""])
def test_other_tables(imports: Imports, filesystem: Path, raw: Path, tmp_path: Path, table: str) -> None:
    disk = assemble(tmp_path / "mbr.raw", 20, [Partition(2, 16, "83", 1, filesystem)], table) if table else filesystem
    assert imports.imported(f"disk:{disk}", "other:1") == imports.imported(raw, "raw:1")


def test_a_disk_that_was_not_unmounted(imports: Imports, filesystem: Path, tmp_path: Path) -> None:
    """As a snapshot of a machine that runs: what only its journal has is brought to its place, in a copy."""
    inside = ext(tmp_path / "dirty.img", filesystem.parent / "root", 16)
    block = run("debugfs", "-R", "blocks /srv/secret", inside).split()[0]
    (tmp_path / "block").write_bytes(b"newest".ljust(1024, b"\0"))
    (tmp_path / "commands").write_text(f"jo\njw -b {block} {tmp_path}/block\njc\n")
    run("debugfs", "-w", "-f", tmp_path / "commands", inside)
    dirty = assemble(tmp_path / "dirty.raw", 20, [Partition(2, 16, LINUX, 1, inside)])
    before = dirty.read_bytes()
    done = imports.run("import", dirty, "dirty:1")
    assert done.returncode == 0, done.stderr
    assert "partition 1 was not unmounted; replaying its journal" in done.stderr
    assert dirty.read_bytes() == before
    with imports.library.open(parse("dirty:1")) as image:
        run("fsck.erofs", f"--extract={tmp_path}/root", image.root.path)
    assert (tmp_path / "root/srv/secret").read_text() == "newest"


def test_what_is_left_out_is_said(imports: Imports, raw: Path) -> None:
    done = imports.run("import", raw, "tiny:1")
    assert "skipping its other filesystems: /home, /\\x1b[31m\n" in done.stderr
    assert "kernel: not the disk's own: there is no kernel with its modules on the disk" in done.stderr


def test_names(imports: Imports, raw: Path, tmp_path: Path) -> None:
    shutil.copy(raw, tmp_path / "Tiny-1.raw")
    assert imports.run("import", "Tiny-1.raw", cwd=tmp_path).returncode == 0
    assert "tiny-1:latest" in [image.name for image in imports.library.images()]
    shutil.copy(raw, tmp_path / "_.raw")
    assert "no image name can be made from" in imports.refused(tmp_path / "_.raw")


def whole(imports: Imports, name: str) -> BootMode:
    with imports.library.open(parse(name)) as image:
        assert image.kernel is None
        assert run("qemu-img", "info", "--output=json", image.root.path).count("backing") == 0
        return image.config.boot


def test_a_disk_is_kept_whole(imports: Imports, raw: Path, tmp_path: Path) -> None:
    first = imports.imported("--firmware", raw, "whole:1")
    assert first == imports.imported("--firmware", FORMATS["vdi"](raw, tmp_path), "whole:2")
    assert whole(imports, "whole:1") is BootMode.BIOS
    assert shown(imports, "whole:1")["config"]["size"] == 20 * MIB
    assert imports.run("verify", "whole:1").returncode == 0
    inspected = imports.run("inspect", "whole:1")
    assert inspected.returncode == 125
    assert "is a whole disk that firmware boots" in inspected.stderr
    assert "Traceback" not in inspected.stderr
    assert "--kernel-of has no effect with --firmware" in imports.refused("--firmware", raw, "whole:3", "--kernel-of", "base:1")
    assert "is a whole disk: its kernel is not known" in imports.refused(raw, "tiny:1", "--kernel-of", "whole:1")
    made = subprocess.run(
        [*imports.command()[:-1], "template", "build", "whole:1"], env=imports.environment(), capture_output=True, text=True
    )
    assert made.returncode == 125
    assert "a template is not possible: the image is a whole disk" in made.stderr


@pytest.mark.parametrize(
    ("code", "types", "boot"),
    [
        (b"\xeb\xfe", (BIOS,), BootMode.BIOS),
        (b"\xeb\xfe", (), BootMode.BIOS),
        (b"\xeb\xfe", (BIOS, EFI), BootMode.BIOS),
        (b"\xeb\xfe", (EFI,), BootMode.EFI),
        (b"", (BIOS, EFI), BootMode.EFI),
    ],
)
def test_a_disk_that_cannot_be_read_is_kept_whole(
    imports: Imports, tmp_path: Path, code: bytes, types: tuple[str, ...], boot: BootMode
) -> None:
    (tmp_path / "xfs.img").write_bytes(b"XFSB".ljust(MIB, b"\0"))
    parts = [Partition(2, 1, LINUX, 1, tmp_path / "xfs.img")]
    parts += [Partition(3 + at, 1, kind, 14 + at) for at, kind in enumerate(types)]
    disk = assemble(tmp_path / "disk.raw", 6, parts)
    with disk.open("r+b") as file:
        file.write(code)
    done = imports.run("import", disk, "xfs:1")
    assert "it has no ext filesystem with an operating system (found: xfs on partition 1" in done.stderr
    assert whole(imports, "xfs:1") is boot


def test_a_whole_disk_goes_to_a_registry_and_back(
    imports: Imports, raw: Path, tmp_path: Path, registry: Callable[..., Registry]
) -> None:
    digest = imports.imported("--firmware", raw, "whole:1")
    remote = f"docker://{registry().address}/site/whole:1"
    assert imports.run("push", "whole:1", remote, "--insecure").stdout.strip() == digest
    other = Imports(imports.folder, Library(tmp_path / "other"), imports.scratch)
    other.configure()
    assert other.run("pull", remote, "--insecure").stdout.strip() == digest
    assert whole(other, "whole:1") is BootMode.BIOS


@pytest.mark.parametrize(
    ("content", "why"),
    [(qcow2(backing=512, backing_size=11), "backing file"), (qcow2(incompatible=4), "another file"), (b"MZ", "not a qcow2")],
)
def test_a_whole_disk_that_leads_elsewhere_is_not_run(imports: Imports, content: bytes, why: str) -> None:
    """As one may be that was pulled."""
    config = ImageConfig(OperatingSystem("linux"), boot=BootMode.BIOS, size=MIB)
    imports.library.add(config, {Role.DISK: Source("qcow2", content)}, Name("bad", "1"))
    command = [*imports.command()[:-1], "run", "bad:1", "--", "true"]
    done = subprocess.run(command, env=imports.environment(), capture_output=True, text=True, cwd=imports.folder, check=False)
    assert done.returncode == 125
    assert "the disk of bad:1" in done.stderr
    assert why in done.stderr


@pytest.fixture
def programs() -> Iterator[Path]:
    """A folder for programs that go before others, where the user can reach it that root has them run as."""
    place = Path(f"/var/tmp/dayfly-programs-{os.getpid()}")
    place.mkdir()
    place.chmod(0o777)
    yield place
    shutil.rmtree(place)


def instead(imports: Imports, programs: Path, script: str) -> None:
    """Let imports find this script in the place of qemu-img."""
    (programs / "qemu-img").write_text(f"#!/bin/sh\n{script}\n")
    (programs / "qemu-img").chmod(0o755)
    imports.before = ["env", f"PATH={programs}:{os.environ['PATH']}"]


def _created(*words: object) -> None:
    run("qemu-img", "create", "-q", *words)


def _backed(place: Path) -> Path:
    _created("-u", "-f", "qcow2", "-b", "/etc/passwd", "-F", "raw", place / "d.qcow2", "1M")
    return place / "d.qcow2"


def _with_data_file(place: Path) -> Path:
    _created("-f", "qcow2", "-o", f"data_file={place}/data,data_file_raw=on", place / "d.qcow2", "1M")
    return place / "d.qcow2"


def _by_json(place: Path) -> Path:
    named = 'json:{"driver":"https","url":"https://127.0.0.1:9/x"}'
    _created("-u", "-f", "qcow2", "-b", named, "-F", "raw", place / "d.qcow2", "1M")
    return place / "d.qcow2"


def _extents(kind: str) -> Callable[[Path], Path]:
    def make(place: Path) -> Path:
        _created("-f", "vmdk", "-o", f"subformat={kind}", place / "d.vmdk", "1M")
        return place / "d.vmdk"

    return make


def _description(place: Path) -> Path:
    (place / "d.vmdk").write_bytes(vmdk(b'createType="monolithicSparse"\nRW 2048 FLAT "/etc/passwd" 0\n', capacity=0))
    return place / "d.vmdk"


def _member(name: str, **about: Any) -> Callable[[Path], Path]:
    return lambda place: archive(place / "d.ova", ("a.ovf", b"<x/>"), (name, vmdk() if not about else b""), **about)


HOSTILE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "backed": (_backed, "needs a backing file"),
    "data file": (_with_data_file, "has its data in another file"),
    "json": (_by_json, "needs a backing file"),
    "flat": (_extents("monolithicFlat"), "in other files"),
    "split": (_extents("twoGbMaxExtentSparse"), "in other files"),
    "description": (_description, "in other files"),
    "ova ..": (_member("../../x.vmdk"), "an invalid name"),
    "ova /": (_member("/tmp/x.vmdk"), "an invalid name"),
    "ova link": (_member("x.vmdk", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "not a regular file"),
    "ova hard": (_member("x.vmdk", type=tarfile.LNKTYPE, linkname="a.ovf"), "not a regular file"),
    "ova device": (_member("x.vmdk", type=tarfile.BLKTYPE, devmajor=8), "not a regular file"),
    "ova folder": (_member("folder", type=tarfile.DIRTYPE), "not a regular file"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_leads_elsewhere_is_refused_before_anything_opens_it(
    imports: Imports, tmp_path: Path, programs: Path, name: str
) -> None:
    make, why = HOSTILE[name]
    place = tmp_path / "hostile"
    place.mkdir()
    instead(imports, programs, f"touch {programs}/started; exit 9")
    assert why in imports.refused(make(place), "bad:1")
    assert not (programs / "started").exists()


def test_what_opens_a_disk_has_no_rights(imports: Imports, raw: Path, tmp_path: Path, programs: Path) -> None:
    """A program in the place of qemu-img says what it is allowed."""
    told = ["$(sed -n 's/CapEff:.//p;s/CapBnd:.//p;s/NoNewPrivs:.//p' /proc/self/status | tr '\\n' ' ')"]
    told += ["$(awk '{print $2; exit}' /proc/self/uid_map)", "$(grep -c : /proc/net/dev)", "$(ulimit -f)", "$(ulimit -v)"]
    disk = FORMATS["qcow2"](raw, tmp_path)
    instead(imports, programs, f'touch {programs}/started; echo "{" ".join(told)}" >&2; exit 9')
    said = imports.refused(disk, "bad:1")
    assert (programs / "started").exists()
    effective, bounding, privileges, owner, interfaces, size, memory = said.rpartition("truncated: ")[2].split()
    assert int(effective, 16) == int(bounding, 16) == 0
    assert privileges == "1"
    assert int(owner) >= 100000 or os.geteuid() != 0
    assert interfaces == "1"
    assert 0 < int(size) * 512 <= 64 * MIB
    assert 0 < int(memory) * 1024 <= 2 << 30


def test_what_qemu_img_says_is_whole_and_names_no_file_of_the_imports(
    imports: Imports, raw: Path, tmp_path: Path, programs: Path
) -> None:
    """Its last lines, none cut before its end, and without the path of a copy that is gone."""
    lines = ["a line long before", "x" * 300, "qemu-img: Could not open '$5': it is odd", "the end"]
    instead(
        imports,
        programs,
        f'for path; do :; done; printf "%s\\n" "{lines[0]}" "{lines[1]}" "{lines[2]}" "{lines[3]}" >&2; exit 9'.replace(
            "$5", "$path"
        ),
    )
    said = imports.refused(FORMATS["qcow2"](raw, tmp_path), "bad:1").partition("truncated: ")[2]
    assert said == f"{'x' * 239}…; qemu-img: Could not open 'it': it is odd; the end"


def test_archives_that_are_no_ova(imports: Imports, raw: Path, tmp_path: Path) -> None:
    disk = ("a.vmdk", vmdk())
    assert "no description" in imports.refused(archive(tmp_path / "a.ova", disk), "bad:1")
    assert "has 2 disks" in imports.refused(archive(tmp_path / "b.ova", ("a.ovf", b""), disk, ("b.vmdk", b"x")), "bad:1")
    assert "has a file twice" in imports.refused(archive(tmp_path / "c.ova", ("a.ovf", b""), disk, disk), "bad:1")
    assert "has 0 disks" in imports.refused(archive(tmp_path / "d.ova", ("a.ovf", b"")), "bad:1")
    assert "does not match the manifest" in imports.refused(ova(raw, tmp_path / "e.ova", "0" * 64), "bad:1")
    cut = ova(raw, tmp_path / "f.ova")
    os.truncate(cut, cut.stat().st_size // 2)
    assert "OVA" in imports.refused(cut, "bad:1")
    many = archive(tmp_path / "g.ova", *((f"{number}.vmdk", b"") for number in range(100)))
    assert "more than 64 entries" in imports.refused(many, "bad:1")


def test_disks_that_are_too_large(imports: Imports, raw: Path, tmp_path: Path) -> None:
    _created("-f", "qcow2", tmp_path / "bomb.qcow2", "1P")
    assert "has a disk of 1024 TiB; the limit is 16 GiB (--max-size raises it)" in imports.refused(tmp_path / "bomb.qcow2")
    assert "the limit is 10 MiB" in imports.refused("--max-size", "10M", raw)
    with (tmp_path / "sparse.raw").open("wb") as file:
        file.truncate(1 << 40)
    assert "the limit is 16 GiB" in imports.refused(tmp_path / "sparse.raw")


@pytest.mark.parametrize("form", ["qcow2", "vmdk", "vmdk stream", "vdi", "raw"])
def test_disks_that_are_cut_short(imports: Imports, raw: Path, tmp_path: Path, form: str) -> None:
    path = FORMATS[form](raw, tmp_path)
    cut = tmp_path / f"cut{path.suffix}"
    shutil.copy(path, cut)
    os.truncate(cut, cut.stat().st_size // 3)
    said = imports.refused(cut, "bad:1")
    assert "truncated" in said or "beyond the disk's end" in said


def test_what_is_no_disk(imports: Imports, tmp_path: Path) -> None:
    (tmp_path / "text.img").write_text("hello\n" * 1000)
    (tmp_path / "pipe.img").unlink(missing_ok=True)
    os.mkfifo(tmp_path / "pipe.img")
    (tmp_path / "folder.img").mkdir()
    (tmp_path / "table.raw").write_bytes(gpt((b"x", 2**40, 2**41)).ljust(MIB, b"\0"))
    (tmp_path / "empty.raw").write_bytes((bytes(510) + b"\x55\xaa").ljust(MIB, b"\0"))
    _created("-f", "qcow2", tmp_path / "nothing.qcow2", "0")
    assert "has an empty disk" in imports.refused(tmp_path / "nothing.qcow2")
    assert "not a disk image of a supported format" in imports.refused(tmp_path / "text.img")
    assert "not a regular file" in imports.refused(tmp_path / "pipe.img")
    assert "not a regular file" in imports.refused(tmp_path / "folder.img")
    assert "there is no file" in imports.refused("disk:missing.qcow2")
    assert "beyond the disk's end" in imports.refused(tmp_path / "table.raw")
    assert "firmware cannot boot the disk" in imports.refused(tmp_path / "empty.raw")
    assert "disk:FILE or https://… for a disk" in imports.refused(tmp_path / "text.txt")
    assert "is not an address of a disk" in imports.refused("https://user:password@example.org/d.qcow2")
    assert "--firmware is for disks" in imports.run("import", "--firmware", "oci:x:1").stderr
    assert "is not a sha256 checksum" in imports.run("import", "--sha256", "12", "d.raw").stderr


def test_a_checksum_that_differs(imports: Imports, raw: Path) -> None:
    assert "does not match the checksum" in imports.refused("--sha256", "0" * 64, raw)
    imports.imported("--sha256", hashlib.sha256(raw.read_bytes()).hexdigest().upper(), raw, "good:1")


@dataclass
class Server:
    """A server of https on this host: what it answers, by path."""

    address: str
    ca: Path
    answers: dict[str, Callable[[http.server.BaseHTTPRequestHandler], None]] = field(default_factory=dict)

    def serving(self, content: bytes) -> str:
        def answer(to: http.server.BaseHTTPRequestHandler) -> None:
            to.send_response(200)
            to.send_header("Content-Length", str(len(content)))
            to.end_headers()
            with contextlib.suppress(OSError):  # who has had enough hangs up
                to.wfile.write(content)

        self.answers["/d.qcow2"] = answer
        return f"{self.address}/d.qcow2"

    def leading(self, target: str) -> str:
        def answer(to: http.server.BaseHTTPRequestHandler) -> None:
            to.send_response(302)
            to.send_header("Location", target)
            to.end_headers()

        self.answers["/leads.qcow2"] = answer
        return f"{self.address}/leads.qcow2"


@pytest.fixture
def secure_server(tmp_path: Path) -> Iterator[Server]:
    """A server with a certificate of the test's own authority."""
    place = tmp_path / "server"
    place.mkdir()
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1")
    run("openssl", "req", "-x509", *key, "-subj", "/CN=Authority", "-keyout", place / "ca.key", "-out", place / "ca.pem")
    run("openssl", "req", *key[:-2], "-subj", "/CN=server", "-keyout", place / "key.pem", "-out", place / "request.pem")
    (place / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    signer = ("-CA", place / "ca.pem", "-CAkey", place / "ca.key", "-CAcreateserial", "-days", "1", "-extfile", place / "names")
    run("openssl", "x509", "-req", "-in", place / "request.pem", *signer, "-out", place / "cert.pem")
    made = Server("", place / "ca.pem")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.answers[self.path.partition("?")[0]](self)

        def log_message(self, *_: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place / "cert.pem", place / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    made.address = f"https://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


def test_servers_that_are_not_to_be_believed(imports: Imports, raw: Path, secure_server: Server) -> None:
    address, ca = secure_server.serving(raw.read_bytes()), ("--ca", secure_server.ca)
    assert "CERTIFICATE_VERIFY_FAILED" in imports.refused(address, "bad:1")
    assert "is larger than" in imports.refused(address, "bad:1", *ca, "--max-size", "1M")
    assert "does not match the checksum" in imports.refused(address, "bad:1", *ca, "--sha256", "0" * 64)
    for target in ("file:///etc/passwd", "http://127.0.0.1:9/d.qcow2", "ftp://127.0.0.1/d.qcow2"):
        said = imports.refused(secure_server.leading(target), "bad:1", *ca)
        assert "which is not https" in said or "is not allowed" in said
    assert "is for registries, not for disks" in imports.run("import", "--insecure", address).stderr
    assert imports.imported(secure_server.leading(address), "good:1", *ca)


def test_a_server_that_falls_silent(imports: Imports, secure_server: Server) -> None:
    done = threading.Event()

    def answer(to: http.server.BaseHTTPRequestHandler) -> None:
        to.send_response(200)
        to.end_headers()
        to.wfile.write(b"QFI\xfb")
        done.wait(30)

    secure_server.answers["/silent.qcow2"] = answer
    said = imports.refused(f"{secure_server.address}/silent.qcow2", "bad:1", "--ca", secure_server.ca, "--timeout", "1s")
    done.set()
    assert "cannot be fetched: The read operation timed out" in said
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        assert "timed out" in imports.refused(f"https://127.0.0.1:{port}/d.qcow2", "bad:1", "--timeout", "1s")


def test_nothing_remains_of_an_import_that_was_killed(imports: Imports, raw: Path, secure_server: Server) -> None:
    arrived, done = threading.Event(), threading.Event()

    def answer(to: http.server.BaseHTTPRequestHandler) -> None:
        to.send_response(200)
        to.end_headers()
        arrived.set()
        done.wait(30)

    secure_server.answers["/slow.qcow2"] = answer
    command = imports.command("import", f"{secure_server.address}/slow.qcow2", "bad:1", "--ca", secure_server.ca)
    with subprocess.Popen(command, env=imports.environment(), stderr=subprocess.DEVNULL) as started:
        assert arrived.wait(20)
        eventually(lambda: any(path.name != ".lock" for path in imports.library.layout.work.iterdir()))
        started.send_signal(signal.SIGKILL)
    done.set()
    imports.imported(raw, "next:1")
    assert "bad:1" not in [image.name for image in imports.library.images()]


def zstd(content: bytes) -> bytes:
    return subprocess.run(["zstd", "-c"], input=content, capture_output=True, check=True).stdout


def with_kernel(folder: Path, target: Path, unpacked: bytes, boot: Path | None = None, lacks: str = "") -> None:
    """Give a copy of a system a kernel that has all that machines need, one module of it packed."""
    shutil.copytree(folder, target, symlinks=True)
    modules = target / "usr/lib/modules/9.9-own"
    (modules / "kernel").mkdir(parents=True)
    (target / "lib").symlink_to("usr/lib")
    (target / "boot").mkdir()
    built_in = [f"kernel/{name}.ko" for name in NEEDED if name not in ("virtio_blk", lacks)]
    (modules / "modules.builtin").write_text("\n".join(built_in) + "\n")
    (modules / "modules.dep").write_text("kernel/virtio_blk.ko.zst:\n")
    (modules / "kernel/virtio_blk.ko.zst").write_bytes(zstd(unpacked))
    ((boot or target / "boot") / "vmlinuz-9.9-own").write_bytes(bzimage(zstd(elf()) + b"size"))
    (target / "boot/vmlinuz-10-without-modules").write_bytes(b"x")


def test_a_disk_with_a_kernel_of_its_own(imports: Imports, folder: Path, tmp_path: Path) -> None:
    """As Ubuntu's are: packed by zstd, and /boot on a filesystem of its own."""
    (tmp_path / "boot").mkdir()
    with_kernel(folder, tmp_path / "root", b"\x7fELF a module", tmp_path / "boot")
    parts = [
        Partition(2, 16, LINUX, 1, ext(tmp_path / "root.img", tmp_path / "root", 16)),
        Partition(18, 4, LINUX, 16, ext(tmp_path / "boot.img", tmp_path / "boot", 4, kind="ext2")),
    ]
    done = imports.run("import", assemble(tmp_path / "disk.raw", 24, parts), "own:1")
    assert "kernel: 9.9-own, the disk's own" in done.stderr, done.stderr
    with imports.library.open(parse("own:1")) as image:
        assert image.config.kernel.version == "9.9-own"
        assert image.kernel is not None
        assert image.kernel.path.read_bytes() == elf()
        assert image.boot_modules is not None
        assert member(image.boot_modules.path.read_bytes(), "modules/virtio_blk.ko") == b"\x7fELF a module"
        assert image.modules is None


def test_a_kernel_without_what_machines_need(imports: Imports, folder: Path, tmp_path: Path) -> None:
    """As Debian's cloud kernels are."""
    with_kernel(folder, tmp_path / "root", b"\x7fELF a module", lacks="9p")
    done = imports.run("import", ext(tmp_path / "root.img", tmp_path / "root", 16), "own:1")
    assert "kernel: not the disk's own: the kernel has no module 9p, which every machine needs" in done.stderr
    assert "kernel: 6.1.0-44-amd64, of base:1" in done.stderr
    assert set(shown(imports, "own:1")["layers"]) == {"root", "kernel", "modules", "boot-modules"}


def test_a_module_that_unpacks_without_end(imports: Imports, folder: Path, tmp_path: Path) -> None:
    with_kernel(folder, tmp_path / "root", b"\x7fELF" + bytes(600 * MIB))
    done = imports.run("import", ext(tmp_path / "root.img", tmp_path / "root", 16), "own:1")
    assert "kernel: not the disk's own: a kernel or a module of it is damaged" in done.stderr
    assert shown(imports, "own:1")["config"]["kernel"]["version"] == "6.1.0-44-amd64"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_an_ordinary_user_makes_the_same_image_as_root(imports: Imports, raw: Path, tmp_path: Path) -> None:
    qcow2 = FORMATS["qcow2"](raw, tmp_path)
    first = imports.imported(qcow2, "tiny:1")
    assert as_another_user(qcow2, "disk:{}", imports.library) == first
