"""Whatever is read from outside, damaged: each reader gives a value or says in words why not. Nothing else may be raised.

A reader is a function whose name begins as in `NAMED`. A new one has to be in a table, or in `ELSEWHERE` with its test.
"""

from __future__ import annotations

import ast
import base64
import gzip
import hashlib
import io
import json
import os
import re
import struct
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.framework import containers
from tests.framework.containers import file, folder, hard, link
from tests.framework.disks import ext, run
from tests.framework.headers import gpt, mbr, opened, qcow2, vdi, vmdk
from tests.framework.kernels import bzimage, elf
from tests.unit.batch.test_submit import TEXT as JOB
from tests.unit.image.examples import CONFIG, LAYERS
from tests.unit.imagebuild.test_recipe import FULL, HEAD, RPM
from tests.unit.job.test_usage import RECORD
from tests.unit.machine.test_command import CONFIG as MACHINE

import dayfly
from dayfly import settings as site
from dayfly import tar, units
from dayfly.batch.adapters.htcondor import classad
from dayfly.batch.submission import description, store
from dayfly.errors import DayflyError, Refused
from dayfly.image import archive, layout
from dayfly.image import manifest as own_manifest
from dayfly.image import qcow2 as qcow2_headers
from dayfly.image.fields import Fields, decode
from dayfly.image.inspection import accounts, gate, osv, packages, privileges, report, services
from dayfly.image.inspection.erofs import Erofs
from dayfly.image.library import Library
from dayfly.image.origin import parse_origin
from dayfly.image.reference import Name, parse_name
from dayfly.image.reference import parse as parse_reference
from dayfly.image.trust import cosign, imagelist, state
from dayfly.imagebuild import kernel, modules, recipe, registry, root
from dayfly.imagebuild.containerimage import layer, layouts, manifest
from dayfly.imagebuild.containerimage.furnish import furnish
from dayfly.imagebuild.containerimage.source import parse as parse_container
from dayfly.imagebuild.containerimage.tree import Limits, Tree
from dayfly.imagebuild.containerimage.unpack import Blob, unpack
from dayfly.imagebuild.disk import formats, ova, partitions
from dayfly.imagebuild.disk.ext import Filesystem
from dayfly.imagebuild.disk.source import parse as parse_disk
from dayfly.imagebuild.disk.source import parse_checksum
from dayfly.job import usage
from dayfly.job.description import parse_folder
from dayfly.machine import instances, serialized
from dayfly.machine.snapshot import description as snapshots
from dayfly.policy import rules_file
from dayfly.provision.templates import store as template_store

NAMED = re.compile(r"(parse|read|load|recognise|examine|entries|members|records|contents|in_layout|in_docker|disk_in|vmlinux)")
LIMITS = Limits(size=1 << 24, entries=1000, layers=8, depth=32)


def on_disk(read: Callable[[Path, Path], object]) -> Callable[[bytes], object]:
    """A reader of a file; the second folder is for what it unpacks."""

    def reader(content: bytes) -> object:
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / "input"
            path.write_bytes(content)
            (Path(name) / "work").mkdir()
            return read(path, Path(name) / "work")

    return reader


def _json(content: bytes) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Refused("not JSON") from error


def by_file(read: Callable[[int], object]) -> Callable[[bytes], object]:
    """A reader of an open file."""

    def reader(content: bytes) -> object:
        with opened(content) as descriptor:
            return read(descriptor)

    return reader


def text(read: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda content: read(content.decode(errors="replace"))


def _merged(path: Path, _: Path) -> object:
    tree = Tree(LIMITS, 0)
    tree.apply(layer.entries(path, 0, 1000))
    tree.drop_devices()
    furnish(tree, "/srv", 0)
    return tree.check()


def _members(path: Path, _: Path) -> object:
    with path.open("rb") as opened_file:
        return list(tar.members(opened_file, 1000))


def _disk_in(path: Path, _: Path) -> object:
    with path.open("rb") as opened_file:
        return ova.disk_in(opened_file, "it")


def _index(content: bytes) -> object:
    with tempfile.TemporaryDirectory() as name:
        containers.layout(Path(name) / "lay", containers.tar(file("a")))
        (Path(name) / "lay/index.json").write_bytes(content)
        return layouts.in_layout(Path(name) / "lay", "", LIMITS)


def _unpacked(path: Path, work: Path) -> object:
    blob = Blob(path, 0, path.stat().st_size)
    return unpack(blob, work / "out", limit=1 << 20, diff_id="", what="it")


def _ext(descriptor: int) -> object:
    return Filesystem(descriptor, 0, os.fstat(descriptor).st_size, LIMITS).tree()


def _erofs(descriptor: int) -> object:
    filesystem = Erofs(descriptor)
    return [list(filesystem.entries(filesystem.root))]


def _no_program(*_: object) -> object:
    raise Refused("no program is run here")


def _laid() -> tuple[bytes, bytes]:
    """The index of the layout that `_index` makes, and the whole of it as an archive."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "lay"
        containers.layout(place, containers.tar(file("a")))
        found = [(str(path.relative_to(place)), path.read_bytes()) for path in sorted(place.rglob("*")) if path.is_file()]
        return (place / "index.json").read_bytes(), archive_of(*found)


def _image() -> bytes:
    """An image as one file."""
    with tempfile.TemporaryDirectory() as name:
        library = Library(Path(name) / "library")
        library.add(CONFIG, LAYERS, Name("a", "1"))
        archive.pack(library, parse_reference("a:1"), Path(name) / "a.tar")
        return (Path(name) / "a.tar").read_bytes()


def archive_of(*members: tuple[str, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as made:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return target.getvalue()


LAYER = containers.tar(
    folder("./"),
    file("a" * 150, b"x" * 700, pax_headers={"SCHILY.xattr.user.x": "y"}),
    file("big", b"", uid=3_000_000),
    link("l", "a"),
    hard("h", "l"),
)
SPARSE = containers.tar(
    file(
        "s",
        b"1\n0\n512\n".ljust(512, b"\0") + bytes(512),
        pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "s", "GNU.sparse.realsize": "9999"},
    )
)
DIGEST = "sha256:" + "ab" * 32
PIECE = {"mediaType": f"{containers.OCI}.manifest.v1+json", "digest": DIGEST, "size": 5, "annotations": {"a": "b"}}
INDEX = json.dumps({"schemaVersion": 2, "manifests": [{**PIECE, "platform": {"os": "linux", "architecture": "amd64"}}]}).encode()
MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "config": {**PIECE, "mediaType": f"{containers.OCI}.config.v1+json"},
        "layers": [{**PIECE, "mediaType": f"{containers.OCI}.layer.v1.tar+gzip"}],
    }
).encode()
CONTAINER = containers.config(
    [LAYER],
    {"Env": ["PATH=/bin"], "Entrypoint": ["/a"], "Cmd": ["b"], "User": "c", "WorkingDir": "/d", "Labels": {"e": "f"}},
)
OWN_LAYERS = [
    own_manifest.layer(own_manifest.Role.ROOT, "erofs", DIGEST, 5),
    own_manifest.layer(own_manifest.Role.KERNEL, "elf", DIGEST, 5),
]
OWN_MANIFEST = own_manifest.render_manifest(
    own_manifest.Manifest(own_manifest.Descriptor(own_manifest.CONFIG_TYPE, DIGEST, 9), tuple(OWN_LAYERS))
)
IMAGE_LIST = json.dumps(
    {
        "hv:imagelist": {
            "dc:date:created": "2026-01-01T00:00:00Z",
            "dc:date:expires": "2036-01-01T00:00:00Z",
            "dc:identifier": "a-b",
            "hv:version": "1",
            "hv:endorser": {"hv:x509": {"hv:dn": "/CN=a", "hv:ca": "/CN=b", "hv:email": "a@b"}},
            "hv:images": [
                {"hv:image": {"dc:identifier": "c", "hv:uri": "https://a/b", "hv:size": 5, "sl:checksum:sha512": "ab" * 64}}
            ],
        }
    }
).encode()
SIGNED = json.dumps(
    {"layers": [{**PIECE, "mediaType": cosign.PAYLOAD_TYPE, "annotations": {"dev.cosignproject.cosign/signature": "eA=="}}]}
)
BUNDLE = json.dumps(
    {
        "SignedEntryTimestamp": "eA==",
        "Payload": {"body": base64.b64encode(b"{}").decode(), "integratedTime": 5, "logIndex": 6, "logID": "ab"},
    }
).encode()
OSV = json.dumps(
    {
        "id": "DSA-1",
        "affected": [
            {
                "package": {"ecosystem": "Debian:12", "name": "bash"},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "5.2"}]}],
                "versions": ["1"],
            }
        ],
    }
).encode()
POLICY = b"""
[[rule]]
user = ["ada", "b*"]
image = "debian:*"
label = {a = "b"}
action = "allow"
[rule.limits]
memory = "2G"
cpus = 4
"""
SETTINGS = b'[machine]\nmemory = "2G"\ncpus = 4\n[scratch]\nsize = "1G"\n'
DISK_SUM = hashlib.sha1(b"disk", usedforsecurity=False).hexdigest().encode()
RECIPES = [
    HEAD.encode(),
    RPM.replace('gpgkey = "key.asc"', "gpgcheck = false").encode(),
    FULL.replace('source = "tool.sh"', 'content = ""').encode(),
]
ELF = elf()
KERNEL = bzimage(gzip.compress(ELF))

LAID_INDEX, LAID = _laid()
PART = {"size": 5, "digest": "x", "fingerprint": "y"}
ABOUT = json.dumps(
    {
        "version": template_store.VERSION,
        "files": dict.fromkeys(template_store.FILES, PART),
        "facts": {"a": "b"},
        "scratch": 1 << 30,
        "snapshot": {"version": 1, "qemu": "7.2", "agent": "idle", "config": {}},
        "made": "2026-01-01T00:00:00Z",
        "seconds": 1.5,
    }
).encode()
Reader = tuple[Callable[[bytes], object], Sequence[bytes]]
READERS: Mapping[str, Reader] = {
    "dayfly.tar.members": (on_disk(_members), [LAYER, SPARSE]),
    "dayfly.imagebuild.containerimage.layer.entries": (on_disk(_merged), [LAYER, SPARSE]),
    "dayfly.imagebuild.containerimage.manifest.parse_manifest": (
        lambda content: manifest.parse_manifest(content, "it", 8),
        [MANIFEST, INDEX],
    ),
    "dayfly.imagebuild.containerimage.manifest.parse_descriptor": (
        lambda content: manifest.parse_descriptor(json.loads(content), "it") if _is_json(content) else None,
        [json.dumps(PIECE).encode()],
    ),
    "dayfly.imagebuild.containerimage.manifest.parse_config": (lambda content: manifest.parse_config(content, "it"), [CONTAINER]),
    "dayfly.imagebuild.containerimage.layouts.in_layout": (_index, [LAID_INDEX]),
    "dayfly.imagebuild.containerimage.layouts.in_layout_archive": (
        on_disk(lambda path, work: layouts.in_layout_archive(path, "", LIMITS, work)),
        [LAID, gzip.compress(LAID)],
    ),
    "dayfly.imagebuild.containerimage.layouts.in_docker_archive": (
        on_disk(lambda path, work: layouts.in_docker_archive(path, "", LIMITS, work)),
        [archive_of(("c", CONTAINER), ("l", LAYER), ("manifest.json", b'[{"Config":"c","RepoTags":["a:1"],"Layers":["l"]}]'))],
    ),
    "unpack": (on_disk(_unpacked), [gzip.compress(LAYER), LAYER]),
    "dayfly.imagebuild.disk.ova.disk_in": (
        on_disk(_disk_in),
        [archive_of(("a.ovf", b"<x/>"), ("a.mf", b"SHA1(d.vmdk)= " + DISK_SUM), ("d.vmdk", b"disk"))],
    ),
    "dayfly.imagebuild.disk.ova.parse_manifest": (
        lambda content: ova.parse_manifest(content, "it"),
        [b"SHA256(a b.vmdk)= " + b"0" * 64, b"0" * 128 + b"  a.vmdk\n"],
    ),
    "dayfly.imagebuild.disk.formats.recognise": (
        by_file(lambda descriptor: formats.recognise(descriptor, "it")),
        [
            qcow2(extensions=[(0x6803F857, b"x" * 48)]),
            vmdk(),
            vmdk(at_end=True),
            vdi(),
            bytes(510) + b"\x55\xaa" + bytes(999),
        ],
    ),
    "qcow2": (by_file(lambda descriptor: qcow2_headers.size(descriptor, "it")), [qcow2(), qcow2(version=2)]),
    "dayfly.imagebuild.disk.partitions.read": (
        by_file(lambda descriptor: partitions.read(descriptor, 1 << 22)),
        [mbr((0x83, 2048, 100)), gpt((b"x" * 16, 2048, 4096)), mbr((0x0F, 1, 9)) + mbr((0x83, 1, 5))],
    ),
    "dayfly.imagebuild.kernel.vmlinux": (
        lambda content: kernel.vmlinux(content, _no_program),
        [KERNEL, ELF],
    ),
    "dayfly.imagebuild.modules.parse_index": (
        text(lambda content: modules.load_order(modules.parse_index(content, ""), ["virtio"])),
        [b"kernel/a/virtio.ko: kernel/b.ko.xz\nkernel/b.ko.xz:\n"],
    ),
    "dayfly.imagebuild.recipe.parse": (
        lambda content: recipe.parse(content, Path("r.toml")),
        RECIPES,
    ),
    "dayfly.imagebuild.root.parse_os_release": (text(root.parse_os_release), [b'ID=debian\nVERSION_ID="12"\nPRETTY_NAME=x\n']),
    "dayfly.image.archive.examine": (
        on_disk(lambda path, work: archive.examine(path, None)),
        [_image()],
    ),
    "dayfly.image.layout.parse_index": (layout.parse_index, [INDEX]),
    "dayfly.image.manifest.parse_manifest": (own_manifest.parse_manifest, [OWN_MANIFEST]),
    "dayfly.image.manifest.parse_config": (own_manifest.parse_config, [own_manifest.render_config(CONFIG, OWN_LAYERS)]),
    "dayfly.image.manifest.parse_descriptor": (
        lambda content: own_manifest.parse_descriptor(Fields.of(json.loads(content), "it")) if _is_json(content) else None,
        [json.dumps(PIECE).encode()],
    ),
    "dayfly.image.origin.parse_origin": (
        lambda content: parse_origin({"org.dayfly.origin.source": content.decode(errors="replace")}),
        [b"docker://a/b:1", b"list:x"],
    ),
    "dayfly.image.reference.parse": (text(parse_reference), [b"user/debian:12", b"debian@sha256:" + b"0" * 64]),
    "dayfly.image.inspection.packages.parse_status": (
        packages.parse_status,
        [b"Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\nDescription: x\n y\n\n"],
    ),
    "dayfly.image.inspection.accounts.parse_passwd": (
        lambda content: accounts.parse_passwd(content, content),
        [b"root:x:0:0:root:/root:/bin/sh\nroot:$6$a$b:1:0:9:7:::\n"],
    ),
    "dayfly.image.inspection.accounts.parse_keys": (
        lambda content: accounts.parse_keys(content, "ada", "/k"),
        [b'command="x y",no-pty ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI comment\n'],
    ),
    "dayfly.image.inspection.services.read_sshd": (
        lambda content: services.read_sshd(services.config_lines(content)),
        [b"Port 22\nListenAddress [::]:2222\nPermitRootLogin yes\nMatch user x\n"],
    ),
    "listeners": (lambda content: services.listeners("a@b.socket", [content]), [b"[Socket]\nListenStream=%i\\\n x\n"]),
    "dayfly.image.inspection.osv.records": (
        on_disk(lambda path, _: osv.find([], "12", osv.records(path.rename(path.with_suffix(".json"))))),
        [OSV],
    ),
    "dayfly.image.trust.imagelist.parse": (imagelist.parse, [IMAGE_LIST]),
    "dayfly.image.trust.state.parse": (state.parse, [state.render(state.State())]),
    "dayfly.image.trust.cosign.parse": (lambda content: cosign.parse(content, "it"), [SIGNED.encode()]),
    "signed digest": (cosign.signed_digest, [cosign.payload(DIGEST, "a/b")]),
    "capabilities": (privileges.capabilities, [struct.pack("<5I", 0x2000001, 1 << 10, 0, 0, 0)]),
    "dayfly.policy.rules_file.parse": (text(lambda content: rules_file.parse(content, "it")), [POLICY]),
    "dayfly.job.usage.parse": (usage.parse, [RECORD.render()]),
    "dayfly.batch.submission.description.parse": (lambda content: description.parse(content, Path("j.toml")), [JOB]),
    "submitted": (
        lambda content: store._submitted(decode(content, "it")),
        [b'{"system": "slurm", "number": "1", "name": "", "output": "", "errors": "", "submitted": "", "first": 0, "last": 9}'],
    ),
    "dayfly.settings.parse": (
        text(lambda content: site.parse(content, site.Settings(), path="it", by=site.Whose.SITE)),
        [SETTINGS],
    ),
    "dayfly.machine.instances.parse": (
        instances.parse,
        [instances.render(instances.Instance(MACHINE, instances.Keeper("host", "boot", 1, 1), 1.0))],
    ),
    "dayfly.machine.serialized.parse": (
        lambda content: serialized.parse(_json(content)),
        [json.dumps(serialized.render(MACHINE)).encode()],
    ),
    "dayfly.machine.snapshot.description.parse": (
        lambda content: snapshots.parse(_json(content)),
        [json.dumps(snapshots.render(snapshots.Snapshot(MACHINE, "7.2.22", snapshots.AgentState.IDLE))).encode()],
    ),
    "dayfly.provision.templates.store.parse_about": (
        template_store.parse_about,
        [ABOUT],
    ),
}
BIG: Mapping[str, Callable[[int], object]] = {
    "dayfly.imagebuild.disk.ext": _ext,
    "erofs": _erofs,
    "dayfly.image.inspection.report.contents": lambda descriptor: report.contents(descriptor, "erofs"),
}
"""Readers of whole filesystems, which programs make."""

LINES: Mapping[str, tuple[Callable[[str], object], Sequence[str]]] = {
    "dayfly.imagebuild.containerimage.source.parse": (parse_container, ["docker://h:1/a/b:1@sha256:" + "0" * 64, "oci:/a:b"]),
    "dayfly.imagebuild.disk.source.parse": (parse_disk, ["disk:/a.raw", "https://h:1/a%20b.qcow2?x=y"]),
    "dayfly.imagebuild.disk.source.parse_checksum": (lambda word: parse_checksum("sha256", word), ["sha256:" + "0" * 64]),
    "dayfly.imagebuild.registry.parse": (registry.parse, ["docker://h/a:1"]),
    "dayfly.image.reference.parse_name": (parse_name, ["debian:12"]),
    "dayfly.image.inspection.gate.parse": (gate.parse, ["passwords,age>30"]),
    "dayfly.job.description.parse_folder": (parse_folder, ["/tmp:ro"]),
    "dayfly.units.parse_size": (units.parse_size, ["1.5GiB"]),
    "dayfly.units.parse_duration": (units.parse_duration, ["1h30m"]),
    "dayfly.batch.adapters.htcondor.classad.parse": (classad.parse, ['A = 1\nB = "x"\n']),
}
"""Readers of what a user writes in a line."""

ELSEWHERE = {
    **dict.fromkeys(
        [
            *(
                "dayfly.batch.adapters.gridengine.job.read",
                "dayfly.batch.adapters.gridengine.job.parse_config",
                "dayfly.batch.adapters.gridengine.job.parse_memory",
            ),
            *(
                "dayfly.batch.adapters.htcondor.job.read",
                "dayfly.batch.adapters.pbs.job.read",
                "dayfly.batch.adapters.slurm.job.read",
                "dayfly.batch.adapters.torque.job.read",
            ),
            *(
                "dayfly.batch.jobshell.prolog.parse",
                "dayfly.batch.jobshell.request.parse",
                "dayfly.batch.setup.site_files.read",
                "dayfly.batch.adapters.torque.filter.parse_size",
            ),
        ],
        "what a batch system says: tests/unit/batch",
    ),
    **dict.fromkeys(
        [
            *("dayfly.imagebuild.archives.parse_targets", "dayfly.imagebuild.archives.parse_options"),
            *(
                "dayfly.imagebuild.modules.load_order",
                "dayfly.app.diagnosis.parse_version",
                "dayfly.machine.processes.parse_command",
            ),
        ],
        "what programs of this host say, or the kernel",
    ),
    **dict.fromkeys(
        [
            *("dayfly.guest.protocol.parse_hello", "dayfly.guest.protocol.parse_stage"),
            *("dayfly.guest.protocol.parse_failed", "dayfly.guest.protocol.parse_exited"),
            "dayfly.guest.protocol.parse_grant",
        ],
        "frames, whose lengths were checked before: tests/unit/machine/test_channel.py",
    ),
    **dict.fromkeys(
        [
            *(
                "dayfly.batch.submission.description.read",
                "dayfly.imagebuild.recipe.load",
                "dayfly.image.layout.read_index",
                "dayfly.files.read",
            ),
            *(
                "dayfly.image.blobs.read_blob",
                "dayfly.image.trust.state.read",
                "dayfly.policy.permission.read",
                "dayfly.settings.load",
            ),
            *("dayfly.provision.templates.store.read_about", "dayfly.files.read_all", "dayfly.files.read_owned"),
        ],
        "opens a file, and leaves what is in it to a reader of the table",
    ),
    "dayfly.lazily.load": "loads modules of the standard library",
    "dayfly.image.trust.keyless.parse_bundle": "its ValueError means no: tests/tools/test_keyless.py",
    **dict.fromkeys(
        [
            "dayfly.cli.completers.records",
            "dayfly.app.diagnosis.examine",
            "dayfly.app.save.parse_target",
            "dayfly.cli.toplevel.parse_toplevel",
        ],
        "the command line's own",
    ),
}


def test_every_reader_is_in_the_table() -> None:
    source = Path(dayfly.__file__).parent
    found = {
        ".".join((*path.relative_to(source.parent).with_suffix("").parts, node.name))
        for path in source.rglob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and NAMED.match(node.name)
    }
    known = {*READERS, *BIG, *LINES}
    assert found - known - set(ELSEWHERE) == set()
    assert set(ELSEWHERE) - found == set()
    assert not known & set(ELSEWHERE)


DECODES = re.compile(r"\b(?:tomllib\.loads|json\.loads|struct\.unpack\w*|decode|tar\.members)\((?!\))")
OTHERS = {
    "dayfly/tar.py": "of members",
    "dayfly/image/fields.py": "of every reader of JSON",
    "dayfly/image/maintenance.py": "manifests that the library has, field by field by parse_descriptor",
    "dayfly/image/trust/keyless.py": "tests/tools/test_keyless.py",
    "dayfly/provision/accelerator.py": "a verdict of the user's own cache: None for anything else",
    "dayfly/machine/events.py": "QEMU's own words: tests/unit/machine/test_events.py",
    "dayfly/guest/frames.py": "frames: tests/unit/machine/test_channel.py",
    "dayfly/batch/submission/local.py": "what this very process has just written",
    "dayfly/batch/submission/store.py": "submitted",
    "dayfly/image/qcow2.py": "qcow2",
    "dayfly/image/inspection/privileges.py": "capabilities",
    "dayfly/image/inspection/erofs.py": "erofs",
}


def test_whatever_decodes_is_in_a_table() -> None:
    """Modules that decode something belong to a reader, also where none of their functions is called as one."""
    source = Path(dayfly.__file__).parent
    found = {
        str(path.relative_to(source.parent))
        for path in source.rglob("*.py")
        if DECODES.search(re.sub(r"\.decode\(", "", path.read_text()))
    }
    known = {*READERS, *BIG, *LINES, *ELSEWHERE}
    tested = {f"{name.rpartition('.')[0].replace('.', '/')}.py" for name in known} | {
        f"{name.replace('.', '/')}.py" for name in BIG
    }
    assert found - tested - set(OTHERS) == set()


def _is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        return False
    return True


NUMBERS = [0, 1, -1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**64 - 1]
PIECES = [
    *(
        struct.pack(order + size, number & (256 ** struct.calcsize(size) - 1))
        for number in NUMBERS
        for order in "<>"
        for size in "HIQ"
    ),
    *(b"\x80" + (2**62).to_bytes(11, "big"), b"\xff" * 12, b"77777777777\0", bytes(512), bytes(1024)),
    *(
        b"null",
        b"-1",
        b"1e999",
        b"NaN",
        b"[]",
        b"{}",
        b'""',
        b"9" * 5000,
        b"true",
        b'"\\ud800"',
        b'"\\u0000"',
        b"[" * 3000,
        b"a.b.c = 1\n",
    ),
    *(b"0x" + b"f" * 5000, b"1979-05-27T07:32:00Z", b"\xff\xfe", b"..", b"\n", b"'", b'"', b"\\", b"=", b":", b"%", b"\x1b[31m"),
]
VALUES = [None, -1, 0, 2**70, 1.5, True, "", "x" * 5000, "\ud800", "\0", [], {}, [None], {"a": None}, "../..", ["a"] * 20_000]


ALWAYS = [
    b"",
    b"\xff\xfe",
    b"a = " + b"9" * 5000,
    b"a = " + b"[" * 50_000,
    b'{"a": ' + b"9" * 5000 + b"}",
    b"[" * 100_000,
    b"x" * 5000,
]


def damaged(data: st.DataObject, examples: Sequence[bytes]) -> bytes:
    """One of these with some bytes of it others, cut, more or less; or a value of its JSON another."""
    content = data.draw(st.sampled_from(examples))
    if _is_json(content) and data.draw(st.booleans()):
        return _other_value(data, json.loads(content))
    made = bytearray(content)
    places = [match.start() for match in re.finditer(rb"[^\0]", content[: 1 << 20])] or [0]
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.sampled_from(places)) - data.draw(st.integers(0, 3))
        at = max(at, 0)
        how = data.draw(st.sampled_from(["bytes", "piece", "cut", "less", "more"]))
        if how == "bytes":
            noise = data.draw(st.binary(min_size=1, max_size=4))
            made[at : at + len(noise)] = noise
        elif how == "piece":
            piece = data.draw(st.sampled_from(PIECES))
            length = data.draw(st.sampled_from([0, len(piece)]))
            made[at : at + length] = piece
        elif how == "cut":
            del made[at:]
        elif how == "less":
            del made[at : at + data.draw(st.sampled_from([1, 2, 8, 512]))]
        else:
            made[at:at] = made[at : at + data.draw(st.sampled_from([1, 8, 512]))]
    return _checksummed(bytes(made)) if data.draw(st.booleans()) else bytes(made)


def _other_value(data: st.DataObject, value: object) -> bytes:
    place = value
    while True:
        keys: list[object] = (
            list(place) if isinstance(place, dict) else list(range(len(place))) if isinstance(place, list) else []
        )
        if not keys:
            return json.dumps(data.draw(st.sampled_from(VALUES))).encode()
        key = data.draw(st.sampled_from(keys))
        below = place[key]  # type: ignore[index]
        if not (isinstance(below, (dict, list)) and below) or data.draw(st.integers(0, 3)) == 0:
            place[key] = data.draw(st.sampled_from(VALUES))  # type: ignore[index]
            return json.dumps(value).encode()
        place = below


def _checksummed(content: bytes) -> bytes:
    """With right checksums of what look like headers of tar, or else damage would never come further than that."""
    made = bytearray(content)
    for at in range(0, len(made) - 511, 512):
        if made[at + 257 : at + 262] == b"ustar":
            made[at + 148 : at + 156] = b" " * 8
            made[at + 148 : at + 156] = b"%06o\0 " % sum(made[at : at + 512])
    return bytes(made)


def only_words(read: Callable[[], object]) -> None:
    try:
        read()
    except DayflyError as error:
        assert error.message  # noqa: PT017 (most often there is none)


@pytest.mark.parametrize("name", READERS)
def test_damage_is_told_in_words(name: str) -> None:
    reader, examples = READERS[name]

    @settings(database=None)
    @given(st.data())
    def damage(data: st.DataObject) -> None:
        content = damaged(data, examples)
        only_words(lambda: reader(content))

    for example in examples:
        reader(example)
    for content in ALWAYS:
        only_words(lambda content=content: reader(content))  # type: ignore[misc]
    damage()


@pytest.mark.parametrize("name", LINES)
def test_whatever_a_user_writes_is_told_in_words(name: str) -> None:
    reader, examples = LINES[name]

    @settings(database=None)
    @given(st.data())
    def damage(data: st.DataObject) -> None:
        line = data.draw(st.one_of(st.text(max_size=30), st.just("")))
        line = line or damaged(data, [example.encode() for example in examples]).decode(errors="surrogateescape")
        only_words(lambda: reader(line))

    for example in examples:
        reader(example)
    damage()


@pytest.fixture(scope="module")
def filesystems(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    """Small ones with a file of each kind."""
    made = tmp_path_factory.mktemp("filesystems")
    (made / "in/etc").mkdir(parents=True)
    (made / "in/etc/passwd").write_bytes(b"root:x:0:0:root:/root:/bin/sh\n")
    (made / "in/etc/long").write_bytes(b"x" * 20_000)
    (made / "in/link").symlink_to("z" * 100)
    os.setxattr(made / "in/etc/passwd", "user.note", b"n" * 30)
    run("mkfs.erofs", "-zlz4hc,9", "--quiet", made / "erofs", made / "in")
    erofs = (made / "erofs").read_bytes()
    image = ext(made / "ext", made / "in", 1, "-b", "1024", "-N", "16").read_bytes()
    return {"dayfly.imagebuild.disk.ext": image, "erofs": erofs, "dayfly.image.inspection.report.contents": erofs}


@pytest.mark.parametrize("name", BIG)
def test_damaged_filesystems_are_told_in_words(name: str, filesystems: Mapping[str, bytes]) -> None:
    whole = filesystems[name]
    places = [match.start() for match in re.finditer(rb"[^\0]", whole)]

    @settings(database=None)
    @given(st.data())
    def damage(data: st.DataObject) -> None:
        made = bytearray(whole)
        for _ in range(data.draw(st.integers(1, 4))):
            at, piece = (
                data.draw(st.sampled_from(places)),
                data.draw(st.one_of(st.sampled_from(PIECES[:66]), st.binary(max_size=4))),
            )
            made[at : at + len(piece)] = piece
        content = bytes(made[: data.draw(st.sampled_from([len(made), len(made) // 2, 1500]))])
        with opened(content) as descriptor:
            only_words(lambda: BIG[name](descriptor))

    with opened(whole) as descriptor:
        BIG[name](descriptor)
    damage()
