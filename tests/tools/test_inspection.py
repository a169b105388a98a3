"""Images made by mkfs.erofs and inspected: what is in them is found, what would do harm does none."""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.framework.authority import openssl
from tests.unit.image.examples import CONFIG, LAYERS

from dayfly.cli import main
from dayfly.errors import DayflyError, Refused
from dayfly.image.inspection import erofs, tree
from dayfly.image.inspection.accounts import fingerprint
from dayfly.image.inspection.erofs import Erofs
from dayfly.image.inspection.image import SCHEMA_FILE
from dayfly.image.inspection.report import Contents, contents, known_problems
from dayfly.image.inspection.tree import Tree
from dayfly.image.inspection.versions import compare
from dayfly.image.library import Library, Source
from dayfly.image.manifest import Role
from dayfly.image.reference import Name, parse
from dayfly.image.trust import cosign, state
from dayfly.image.trust.state import Entry
from dayfly.image.trust.subscriptions import prepare
from dayfly.imagebuild.filesystem import erofs_command
from dayfly.values import replace

KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIP1mCQbNRMrWLuQdZzI4yxbgnHkUYKPbMHJ4cQk9PH4E"
FILES = {
    "etc/os-release": 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian \x1b[2J12"\n',
    "etc/passwd": "root:x:0:0:root:/root:/bin/bash\nguest::1000:1000::/home/guest:/bin/sh\nnobody:x:99:99::/:/bin/false\n",
    "etc/shadow": "root:$6$salt$secrethash:1::::::\nnobody:*:1::::::\n",
    "etc/ssh/sshd_config": "Include /etc/ssh/sshd_config.d/*.conf\nPort 22\nPermitRootLogin no\n",
    "etc/ssh/sshd_config.d/site.conf": "Port 2222\nPermitRootLogin yes\n",
    "etc/ssh/ssh_host_ed25519_key": "PRIVATE\n",
    "etc/ssh/ssh_host_ed25519_key.pub": f"ssh-ed25519 {KEY}\n",
    "root/.ssh/authorized_keys": f"ssh-ed25519 {KEY} admin\x1b]0;x\x07\n",
    "usr/lib/systemd/system/ssh.service": "[Service]\nExecStart=/usr/sbin/sshd\n",
    "usr/lib/systemd/system/web.socket": "[Socket]\nListenStream=80\nListenStream=/run/web\n",
    "usr/lib/systemd/system/off.socket": "[Socket]\nListenStream=23\n",
    "etc/systemd/system/web.socket.d/more.conf": "[Socket]\nListenStream=8080\n",
    "usr/bin/su": "set-uid\n",
    "usr/bin/ping": "capable\n",
    "var/lib/dpkg/status": "Package: libssl3\nStatus: install ok installed\nSource: openssl\nVersion: 3.0.11-1\n",
}
LINKS = {
    "etc/systemd/system/multi-user.target.wants/ssh.service": "/usr/lib/systemd/system/ssh.service",
    "etc/systemd/system/sockets.target.wants/web.socket": "/usr/lib/systemd/system/web.socket",
    "etc/systemd/system/sockets.target.wants/off.socket": "/usr/lib/systemd/system/off.socket",
    "etc/systemd/system/off.socket": "/dev/null",
    "home": "../../../usr/../root/..",
}
ADVISORY = {
    "id": "DSA-5764-1",
    "summary": "a \x1b[1mproblem",
    "affected": [
        {
            "package": {"ecosystem": "Debian:12", "name": "openssl"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.0.14-1~deb12u2"}]}],
        }
    ],
}
RAW_CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)


def make(folder: Path, *options: str) -> Path:
    target = folder.with_suffix(".erofs")
    command = erofs_command(target, folder, all_root=False)
    subprocess.run([command[0], *options, *command[2:]] if options else command, check=True)
    return target


def root(folder: Path) -> Path:
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for name, target in LINKS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(target)
    (folder / "usr/bin/su").chmod(0o4755)
    if os.geteuid() == 0:
        os.setxattr(folder / "usr/bin/ping", "security.capability", RAW_CAPABILITY)
    return folder


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An image that boots its own init, with much that a gate could look for."""
    return add(tmp_path, make(root(tmp_path / "root")).read_bytes(), monkeypatch)


def add(tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch, form: str = "erofs") -> str:
    (tmp_path / "settings.toml").write_text(f'[library]\nuser = "{tmp_path}/library"\n')
    monkeypatch.setenv("DAYFLY_SETTINGS", str(tmp_path / "settings.toml"))
    Library(tmp_path / "library").add(CONFIG, {**LAYERS, Role.ROOT: Source(form, content)}, Name("debian", "12"))
    return "user/debian:12"


def test_everything_is_found(image: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "osv.json").write_text(json.dumps(ADVISORY))
    assert main(["image", "inspect", image, "--json", "--osv", str(tmp_path / "osv.json")]) == 0
    output = capsys.readouterr().out
    report = json.loads(output)
    jsonschema.validate(report, json.loads(SCHEMA_FILE.read_text()))
    assert "\x1b" not in output
    assert "secrethash" not in output
    inside = report["contents"]
    assert inside["unread"] == []
    assert inside["os"]["PRETTY_NAME"] == r"Debian \x1b[2J12"
    assert [(one["name"], one["password"], one["scheme"]) for one in inside["accounts"]] == [
        ("root", "set", "sha512crypt"),
        ("guest", "empty", ""),
        ("nobody", "none", ""),
    ]
    assert [(key["user"], key["path"], key["comment"]) for key in inside["keys"]] == [
        ("root", "/root/.ssh/authorized_keys", r"admin\x1b]0;x\x07")
    ]
    assert [(file["path"], file["mode"]) for file in inside["setid"]] == [("/usr/bin/su", "4755")]
    if os.geteuid() == 0:
        assert inside["capabilities"] == [{"path": "/usr/bin/ping", "capabilities": ["cap_net_raw"]}]
    assert [one["unit"] for one in inside["services"]] == ["ssh.service", "web.socket"]
    assert [(one["unit"], one["address"], one["network"]) for one in inside["listeners"]] == [
        ("ssh.service", "2222", True),
        ("ssh.service", "22", True),
        ("web.socket", "80", True),
        ("web.socket", "/run/web", False),
        ("web.socket", "8080", True),
    ]
    assert inside["sshd"]["permit_root_login"] == "yes"
    assert [key["path"] for key in inside["host_keys"]] == ["/etc/ssh/ssh_host_ed25519_key"]
    assert [(one["id"], one["fixed"]) for one in inside["vulnerabilities"]] == [("DSA-5764-1", "3.0.14-1~deb12u2")]


def test_the_fingerprint_is_that_of_ssh_keygen(tmp_path: Path) -> None:
    ssh_keygen = "/usr/bin/ssh-keygen"
    if not Path(ssh_keygen).exists():
        pytest.skip("there is no ssh-keygen")
    subprocess.run([ssh_keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    told = subprocess.run([ssh_keygen, "-l", "-f", str(tmp_path / "key.pub")], check=True, capture_output=True, text=True).stdout
    assert fingerprint((tmp_path / "key.pub").read_text().split()[1]) == told.split()[1]


def test_people_see_no_control_characters(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["image", "inspect", image]) == 0
    output = capsys.readouterr().out
    assert all(letter.isprintable() or letter == "\n" for letter in output)
    for shown in ("sha512crypt", "/root/.ssh/authorized_keys", "8080", "ssh_host_ed25519_key", r"Debian \x1b[2J12"):
        assert shown in output


@pytest.mark.parametrize("kind", ["passwords", "keys", "host-keys", "setuid", "listening", "unsigned", "age>30", "vulnerable"])
def test_a_gate(kind: str, image: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "osv").mkdir()
    (tmp_path / "osv/DSA-5764-1.json").write_text(json.dumps(ADVISORY))
    assert main(["image", "inspect", image, "--fail-on", kind, "--osv", str(tmp_path / "osv")]) == 3
    assert f"dayfly: {kind}: " in capsys.readouterr().err
    assert main(["image", "inspect", image, "--fail-on", kind, "--osv", str(tmp_path / "osv"), "--json"]) == 3
    assert {one["condition"] for one in json.loads(capsys.readouterr().out)["failures"]} == {kind}


def test_a_signature_of_a_key_that_is_believed(image: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    library = Library(tmp_path / "library")
    digest = library.inspect(parse(image))[0]
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", tmp_path / "key")
    openssl("pkey", "-in", tmp_path / "key", "-pubout", "-out", tmp_path / "public")
    cosign.add_key(library, "site", tmp_path / "public")
    cosign.sign(library, digest, "debian:12", tmp_path / "key")
    assert main(["image", "inspect", image, "--fail-on", "unsigned"]) == 3
    cosign.verify(library, digest)
    capsys.readouterr()
    assert main(["image", "inspect", image, "--fail-on", "unsigned", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["endorsers"] == ["key:site"]


def test_a_library_whose_lists_cannot_be_read(image: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "library/trust").mkdir()
    (tmp_path / "library/trust/state.json").write_text("no JSON")
    assert main(["image", "inspect", image, "--fail-on", "unsigned"]) == 125
    assert "dayfly: " in capsys.readouterr().err


def test_an_image_that_is_stopped(image: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    library = Library(tmp_path / "library")
    digest = library.inspect(parse(image))[0]
    entry = Entry("site", "an-image", "debian:12", "0" * 64, "1", "list:site", "/CN=Ada", 1, 1 << 33)
    prepare(library)
    with state.changing(library.layout) as versions:
        versions.append(replace(versions[-1], images={digest: (entry,)}))
    assert main(["image", "inspect", image, "--fail-on", "stopped,unsigned"]) == 3
    captured = capsys.readouterr()
    assert "may not be run: the list 'site' was removed" in captured.out
    assert "dayfly: stopped: " in captured.err
    assert "dayfly: unsigned: " in captured.err


def test_a_gate_that_lets_pass(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["image", "inspect", image, "--fail-on", "stopped,age>99999", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["failures"] == []


def test_errors(image: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["image", "inspect", image, "--fail-on", "vulnerable"]) == 125
    assert "--osv" in capsys.readouterr().err
    assert main(["image", "inspect", image, "--fail-on", "passwrds"]) == 125
    assert "passwords" in capsys.readouterr().err
    assert main(["image", "inspect", image, "--osv", str(tmp_path / "nothing")]) == 125
    assert main(["image", "inspect", "user/debian:11"]) == 125


@pytest.mark.parametrize("content", [b"", b"no filesystem" * 1000, b"\0" * 1024 + struct.pack("<I", 0xE0F5E1E2) + b"\0" * 4000])
def test_what_is_no_filesystem(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["image", "inspect", add(tmp_path, content, monkeypatch)]) == 125
    assert capsys.readouterr().err.startswith("dayfly: user/debian:12: ")


def test_squashfs_is_said_not_to_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["image", "inspect", add(tmp_path, b"hsqs", monkeypatch, "squashfs")]) == 125
    assert "only erofs can be inspected" in capsys.readouterr().err


def test_known_problems_are_read_for_debian_only(tmp_path: Path) -> None:
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/etc/os-release").write_text("ID=other\nVERSION_ID=12\n")
    found = known_problems(inspected(make(tmp_path / "root")), tmp_path)
    assert found.vulnerabilities == ()
    assert "vulnerabilities" in {one.section for one in found.unread}


def test_packages_of_rpm_are_said_not_to_be_read(tmp_path: Path) -> None:
    (tmp_path / "root/var/lib/rpm").mkdir(parents=True)
    (tmp_path / "root/var/lib/rpm/rpmdb.sqlite").write_bytes(b"SQLite")
    assert [(one.section, one.path) for one in inspected(make(tmp_path / "root")).unread] == [("packages", "/var/lib/rpm")]


def inspected(path: Path) -> Contents:
    file = os.open(path, os.O_RDONLY)
    try:
        return contents(file, "erofs")
    finally:
        os.close(file)


def walked(path: Path) -> dict[str, bytes]:
    """All that a filesystem's regular files hold, by their paths."""
    file = os.open(path, os.O_RDONLY)
    try:
        filesystem = Erofs(file)
        return {name.decode(): filesystem.read(inode, 1 << 30) for name, inode in Tree(filesystem).walk() if inode.is_file}
    finally:
        os.close(file)


def varied(folder: Path) -> dict[str, bytes]:
    """Files of many sizes and kinds, in folders small and large."""
    source = random.Random(5)
    words = [source.randbytes(7) for _ in range(50)]
    folder.mkdir()
    files = {"/empty": b"", "/zeros": b"\0" * 300_000}
    for size in (1, 31, 4095, 4096, 4097, 8192, 70_000, 1_000_003):
        files[f"/random-{size}"] = source.randbytes(size)
        files[f"/text-{size}"] = b"".join(source.choices(words, k=size // 7 + 1))[:size]
        files[f"/mixed-{size}"] = (source.randbytes(size // 2) + b"x" * size)[:size]
    files |= {f"/many/{'n' * 60}{number}": str(number).encode() for number in range(500)}
    for name, content in files.items():
        (folder / name[1:]).parent.mkdir(exist_ok=True)
        (folder / name[1:]).write_bytes(content)
    return files


@pytest.mark.parametrize(
    "options", [(), ("-zlz4",), ("-Enoinline_data",), ("-zlz4hc,12", "-Elegacy-compress"), ("-Eforce-inode-extended",)]
)
def test_what_mkfs_makes_is_read(options: tuple[str, ...], tmp_path: Path) -> None:
    files = varied(tmp_path / "varied")
    assert walked(make(tmp_path / "varied", *options)) == files


def test_other_features_are_refused(tmp_path: Path) -> None:
    varied(tmp_path / "varied")
    path = make(tmp_path / "varied", "-zlz4hc", "-C65536")
    with pytest.raises(Refused, match="features that are not supported"):
        walked(path)


def test_a_damaged_filesystem_is_refused_or_read(tmp_path: Path) -> None:
    content = make(root(tmp_path / "root")).read_bytes()
    source = random.Random(7)
    ended = 0
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(source.choice((1, 4, 40))):
            damaged[source.randrange(1024, len(damaged))] = source.randrange(256)
        (tmp_path / "damaged").write_bytes(damaged[: source.choice((len(damaged), source.randrange(len(damaged))))])
        try:
            inspected(tmp_path / "damaged")
        except DayflyError:
            ended += 1
    assert 0 < ended < 300


def test_a_directory_in_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root/a/b").mkdir(parents=True)
    path = make(tmp_path / "root")
    file = os.open(path, os.O_RDONLY)
    found = {name: inode.nid for name, inode in Tree(Erofs(file)).walk()}
    os.close(file)
    content = path.read_bytes()
    pointer = struct.pack("<Q", found[b"/a/b"])
    assert content.count(pointer) >= 1
    path.write_bytes(content.replace(pointer, struct.pack("<Q", found[b"/a"])))
    with pytest.raises(DayflyError, match="one directory in two places"):
        inspected(path)


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(root(tmp_path / "root"))
    for module, name, value in ((tree, "MOST_FILES", 10), (erofs, "MOST_METADATA", 100), (tree, "MOST_STEPS", 10)):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            with pytest.raises(Refused):
                inspected(path)
    monkeypatch.setattr(tree, "MOST_CONTENT", 100)
    assert {"accounts", "packages"} <= {one.section for one in inspected(path).unread}


def test_links_stay_in_the_image(tmp_path: Path) -> None:
    folder = tmp_path / "root"
    (folder / "etc").mkdir(parents=True)
    (folder / "etc/passwd").symlink_to("../../../../../../etc/passwd-of-it")
    (folder / "etc/passwd-of-it").write_text("inside:x:5:5::/:/bin/sh\n")
    (folder / "etc/os-release").symlink_to("os-release")
    found = inspected(make(folder))
    assert [account.name for account in found.accounts] == ["inside"]
    assert found.os == {}


def test_what_is_too_large_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "root"
    (folder / "etc").mkdir(parents=True)
    (folder / "etc/passwd").write_bytes(b"\0" * 50_000_000)
    (folder / "etc/shadow").mkdir()
    found = inspected(make(folder))
    assert {(one.section, one.path) for one in found.unread} == {
        ("accounts", "/etc/passwd"),
        ("accounts", "/etc/shadow"),
        ("packages", "/var/lib/dpkg/status"),
    }


def test_an_ordinary_user_can(image: str, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("who runs the tests is one already")
    code = "import os, sys; os.setgid(65534); os.setuid(65534); from dayfly.image.inspection.report import contents; "
    code += "print(len(contents(0, 'erofs').accounts))"
    with (tmp_path / "root.erofs").open("rb") as file:
        done = subprocess.run([sys.executable, "-c", code], stdin=file, capture_output=True, text=True, check=True)
    assert done.stdout == "3\n"


VERSION = st.from_regex(r"([0-9]{1,2}:)?[0-9][A-Za-z0-9.+~]{0,10}(-[A-Za-z0-9.+~]{1,6})?", fullmatch=True)
CLOSE = st.from_regex(r"1[.~+]?[0a~]{0,3}[.+]?[01]{0,2}(-[01~a]{1,3})?", fullmatch=True)


@given(VERSION | CLOSE, VERSION | CLOSE)
def test_versions_are_ordered_as_dpkg_orders_them(one: str, other: str) -> None:
    order = compare(one, other)
    word = "lt" if order < 0 else "gt" if order else "eq"
    assert subprocess.run(["dpkg", "--compare-versions", one, word, other], check=False).returncode == 0


@pytest.mark.parametrize("name", ["debian:12", "debian:12-system", "debian:12-ssh"])
def test_real_images(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    library: Path = request.getfixturevalue("library")
    for image, fixture in (("debian:12-system", "system_image"), ("debian:12-ssh", "ssh_image")):
        if image == name:
            request.getfixturevalue(fixture)
    monkeypatch.setenv("DAYFLY_SETTINGS", str(library / "settings.toml"))
    assert main(["image", "inspect", f"user/{name}", "--json", "--fail-on", "passwords,keys,host-keys"]) == 0
    report = json.loads(capsys.readouterr().out)
    jsonschema.validate(report, json.loads(SCHEMA_FILE.read_text()))
    inside = report["contents"]
    assert inside["unread"] == []
    assert inside["os"]["ID"] == "debian"
    names = {package["name"] for package in inside["packages"]}
    assert {"dpkg", "libc6", "coreutils"} <= names
    assert ("openssh-server" in names) == (inside["sshd"] is not None)
    assert "/usr/bin/su" in {file["path"] for file in inside["setid"]}
    assert ("systemd-journald.service" in {one["unit"] for one in inside["services"]}) == (name == "debian:12-system")
