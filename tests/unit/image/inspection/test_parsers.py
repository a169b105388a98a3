"""What an image's files say: packages, accounts, keys, units, sshd's settings, capabilities, and whatever else they may hold."""

import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.image.inspection import accounts, packages, privileges, services
from dayfly.image.inspection.accounts import Password
from dayfly.image.inspection.image import age_days
from dayfly.image.inspection.report import os_release
from dayfly.image.inspection.texts import LONGEST, shown

KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIP1mCQbNRMrWLuQdZzI4yxbgnHkUYKPbMHJ4cQk9PH4E"
STATUS = b"""\
Package: libc6
Status: install ok installed
Architecture: amd64
Source: glibc (2.36-9)
Version: 2.36-9+deb12u10
Description: a library
 Version: 99

Package: gone
Status: deinstall ok config-files
Version: 1

Package: half
Status: install ok half-configured
Version: 2
"""


@given(st.text() | st.binary())
def test_what_is_shown_is_harmless(text: str | bytes) -> None:
    line = shown(text)
    assert line.isprintable()
    assert len(line) <= LONGEST
    line.encode()


def test_what_is_shown_keeps_its_meaning() -> None:
    assert shown(b"caf\xc3\xa9 \x1b[2J\x9b\n") == r"café \x1b[2J\x9b\n"
    assert shown("\u202eabc\udc80") == r"\u202eabc\udc80"
    assert shown("x" * 600) == "x" * 511 + "…"


def test_packages() -> None:
    libc, half = packages.parse_status(STATUS)
    assert (libc.name, libc.version, libc.architecture) == ("libc6", "2.36-9+deb12u10", "amd64")
    assert (libc.source, libc.source_version) == ("glibc", "2.36-9")
    assert (half.name, half.source, half.source_version) == ("half", "half", "2")


def test_packages_without_a_status() -> None:
    text = b"Package: base-files\nVersion: 12.4\n"
    assert packages.parse_status(text) == []
    assert [package.name for package in packages.parse_status(text, always=True)] == ["base-files"]


@pytest.mark.parametrize(
    ("field", "state", "scheme"),
    [
        ("", Password.EMPTY, ""),
        ("*", Password.NONE, ""),
        ("!", Password.NONE, ""),
        ("!$6$salt$hash", Password.NONE, ""),
        ("$6$salt$hash", Password.SET, "sha512crypt"),
        ("$y$j9T$salt$hash", Password.SET, "yescrypt"),
        ("$zz$salt", Password.SET, "unknown"),
        ("ab1234567890.", Password.SET, "descrypt"),
        ("x", Password.NONE, ""),
    ],
)
def test_passwords(field: str, state: Password, scheme: str) -> None:
    assert accounts.password(field) == (state, scheme)


def test_accounts() -> None:
    passwd = b"root:x:0:0:root:/root:/bin/bash\nold::5:5::/:\nlost:x:6:6::/:/bin/sh\nbad line\n+nis::::::\nshort:x:1\n"
    found, bad = accounts.parse_passwd(passwd, b"root:$5$a$b:1::::::\n")
    assert [(one.name, one.password, one.shell) for one in found] == [
        ("root", Password.SET, "/bin/bash"),
        ("old", Password.EMPTY, "/bin/sh"),
        ("lost", Password.NONE, "/bin/sh"),
    ]
    assert bad == 2


def test_hostile_accounts_are_shown_harmlessly() -> None:
    found, _ = accounts.parse_passwd(b"\x1b[31mx:x:0:0::/\x9b/\xff:/bin/sh\n", b"")
    assert found[0].home == "/\udc9b/\udcff"
    harmless = accounts.harmless(found[0])
    assert (harmless.name, harmless.home) == (r"\x1b[31mx", r"/\udc9b/\udcff")


def test_keys() -> None:
    text = (
        f"# a comment\nssh-ed25519 {KEY} me@\x1b[0mhost\n"
        f'command="echo ssh-rsa AAAA",no-pty ssh-ed25519 {KEY}\n\nssh-ed25519 nokey?\nssh-rsa AAAAA\nrubbish\n'
    )
    found, bad = accounts.parse_keys(text.encode(), "root", "/root/.ssh/authorized_keys")
    assert [(key.type, key.comment) for key in found] == [("ssh-ed25519", r"me@\x1b[0mhost"), ("ssh-ed25519", "")]
    assert {key.fingerprint for key in found} == {"SHA256:" + found[0].fingerprint[7:]}
    assert len(found[0].fingerprint) == 50
    assert bad == 3


@pytest.mark.parametrize("line", ['"' + '\\"' * 100_000, "ssh-rsa" + " " * 200_000, "ssh-rsa " * 30_000, 'a="' * 80_000])
def test_keys_made_to_take_long(line: str) -> None:
    begun = time.monotonic()
    accounts.parse_keys(line.encode(), "root", "/x")
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("written", "unit", "address", "network"),
    [
        ("%i", "app@8080.socket", "8080", True),
        ("/run/%p/%i.sock", "app@a.socket", "/run/app/a.sock", False),
        ("%I", "app@run-x\\x2dy.socket", "run/x-y", True),
        ("%n %N %j %%", "a-b@1.socket", "a-b@1.socket a-b@1 b %", True),
        ("%t/%i/x", "app@a.socket", "%t/a/x", False),
        ("%i", "app.socket", "", True),
        ("%", "app@1.socket", "%", True),
    ],
)
def test_an_instance_of_a_template_listens_where_its_name_says(written: str, unit: str, address: str, network: bool) -> None:
    (found,) = services.listeners(unit, [f"[Socket]\nListenStream={written}\n".encode()])
    assert (found.address, found.network) == (address, network)


def test_sockets() -> None:
    unit = b"[Unit]\nListenStream=1\n[Socket]\n# ListenStream=2\nListenStream=22\nListenStream=/run/x\nListenDatagram=[::1]:53\n"
    found = services.listeners("x.socket", [unit, b"[Socket]\nListenSequentialPacket = @abstract\n"])
    assert [(one.kind, one.address, one.network) for one in found] == [
        ("stream", "22", True),
        ("stream", "/run/x", False),
        ("datagram", "[::1]:53", True),
        ("sequential", "@abstract", False),
    ]
    assert [
        one.address for one in services.listeners("x.socket", [unit, b"[Socket]\nListenStream=\nListenStream=\\\n 2222\n"])
    ] == ["2222"]


def test_sshd() -> None:
    text = b"""\
Port 2222
port=2022
PermitRootLogin yes
PermitRootLogin no
AuthorizedKeysFile /etc/keys/%u .ssh/authorized_keys "%h/a b"
ListenAddress ::1
ListenAddress 10.0.0.1:99
Match User x
PasswordAuthentication no
"""
    sshd = services.read_sshd(services.config_lines(text))
    assert sshd.ports == (2222, 2022)
    assert (sshd.permit_root_login, sshd.password_authentication, sshd.conditional) == ("yes", "yes", True)
    assert services.keys_paths(sshd.keys_files, "me", "/home/me") == [
        "/etc/keys/me",
        "/home/me/.ssh/authorized_keys",
        "/home/me/a b",
    ]
    assert services.addresses(sshd) == ["[::1]:2222", "[::1]:2022", "10.0.0.1:99"]
    assert services.addresses(services.read_sshd([])) == ["22"]


def test_capabilities() -> None:
    assert privileges.capabilities(struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)) == ("cap_net_raw",)
    assert privileges.capabilities(struct.pack("<6I", 0x03000001, 1, 0, 1 << 8, 0, 1000)) == (
        "cap_chown",
        "cap_checkpoint_restore",
    )
    assert privileges.capabilities(struct.pack("<3I", 0x01000000, 0, 1 << 21)) == ("cap_sys_admin",)
    assert privileges.capabilities(b"\1\0\0\2") == privileges.capabilities(b"") == ("unknown",)


def test_os_release() -> None:
    found = os_release(b'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian \\"\x1b[1m\\""\nnot this\nlower=x\n')
    assert found == {"ID": "debian", "VERSION_ID": "12", "PRETTY_NAME": r'Debian "\x1b[1m"'}


@given(st.binary(max_size=400))
def test_nothing_breaks_a_parser(content: bytes) -> None:
    packages.parse_status(content, always=True)
    found, _ = accounts.parse_passwd(content, content)
    accounts.parse_keys(b"ssh-rsa " + content, "u", "/p")
    services.listeners("x.socket", [content, b"[Socket]\n" + content])
    sshd = services.read_sshd(services.config_lines(content))
    services.addresses(sshd)
    privileges.capabilities(content)
    assert all(value.isprintable() for value in os_release(content).values())
    assert all(accounts.harmless(account).name.isprintable() for account in found)


def test_age() -> None:
    assert age_days("1970-01-11T00:00:00Z", 12 * 86400.0) == 2
    assert age_days("2999-01-01T00:00:00Z", 0.0) == 0
    assert age_days("2026-99-99T00:00:00Z", 86400.0 * 20) == 20
