"""Who can log in to a root: its passwd and shadow (passwd(5), shadow(5)), and keys in authorized_keys (sshd(8)). Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from enum import StrEnum

from dayfly.image.inspection.texts import shown
from dayfly.values import dataclass, replace

LIMIT = 4 * 1024**2
KEYS_LIMIT = 256 * 1024
MOST_ACCOUNTS = 10_000
_NUMBER = re.compile(r"[0-9]{1,10}")
_KEY = re.compile(r"(?:^|\s)((?:ssh-|ecdsa-sha2-|sk-ssh-|sk-ecdsa-)[a-z0-9@.-]+) +([A-Za-z0-9+/]+={0,2})(?:\s+(.*))?$")
_SCHEMES = {
    "1": "md5crypt",
    "2a": "bcrypt",
    "2b": "bcrypt",
    "2y": "bcrypt",
    "5": "sha256crypt",
    "6": "sha512crypt",
    "y": "yescrypt",
}


class Password(StrEnum):
    """What an account's password field allows."""

    NONE = "none"
    """No login by password."""
    SET = "set"
    EMPTY = "empty"
    """Login without a password."""


@dataclass(frozen=True)
class Account:
    """A line of passwd.

    Bytes that are not text are surrogates; `harmless` makes it printable. `scheme` is the hash function of the password.
    """

    name: str
    uid: int
    gid: int
    home: str
    shell: str
    password: Password
    scheme: str = ""


@dataclass(frozen=True)
class Key:
    """A public key that allows login as a user. `fingerprint` is as `ssh-keygen -l` prints it."""

    user: str
    path: str
    type: str
    fingerprint: str
    comment: str = ""


def parse_passwd(passwd: bytes, shadow: bytes) -> tuple[list[Account], int]:
    """The accounts, and the number of malformed lines."""
    hashes: dict[str, str] = {}
    for line in _lines(shadow):
        name, colon, rest = line.partition(":")
        if colon:
            hashes.setdefault(name, rest.partition(":")[0])
    accounts: list[Account] = []
    bad = 0
    for line in _lines(passwd):
        fields = line.split(":")
        if len(fields) != 7 or not fields[0] or not _NUMBER.fullmatch(fields[2]) or not _NUMBER.fullmatch(fields[3]):
            bad += not line.startswith(("+", "-"))
            continue
        if len(accounts) >= MOST_ACCOUNTS:
            bad += 1
            continue
        state, scheme = password(hashes.get(fields[0], "*") if fields[1] == "x" else fields[1])
        accounts.append(Account(fields[0], int(fields[2]), int(fields[3]), fields[5], fields[6] or "/bin/sh", state, scheme))
    return accounts, bad


def harmless(account: Account) -> Account:
    """An account in printable form."""
    return replace(account, name=shown(account.name), home=shown(account.home), shell=shown(account.shell))


def password(field: str) -> tuple[Password, str]:
    """What a password field allows, and its scheme. `!` and `*` before a hash lock it (shadow(5))."""
    if not field:
        return Password.EMPTY, ""
    if field[0] in "!*":
        return Password.NONE, ""
    if field[0] == "$":
        return Password.SET, _SCHEMES.get(field[1:].partition("$")[0], "unknown")
    return (Password.SET, "descrypt") if len(field) in (13, 20) else (Password.NONE, "")


def parse_keys(content: bytes, user: str, path: str) -> tuple[list[Key], int]:
    """The keys of an authorized_keys file, and the number of malformed lines."""
    keys: list[Key] = []
    bad = 0
    for line in _lines(content):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = _KEY.search(_unquoted(text))
        print_ = fingerprint(match[2]) if match else ""
        if match and print_:
            keys.append(Key(shown(user), shown(path), match[1], print_, shown(match[3] or "")))
        else:
            bad += 1
    return keys, bad


def fingerprint(encoded: str) -> str:
    """`SHA256:…` of a key in base64; empty if it is malformed."""
    try:
        digest = hashlib.sha256(base64.b64decode(encoded, validate=True)).digest()
    except (binascii.Error, ValueError):
        return ""
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _unquoted(line: str) -> str:
    """A line without the quoted parts of its options, which could look like a key."""
    return re.sub(r'"(?:[^"\\]|\\.)*"?', '""', line)


def _lines(content: bytes) -> list[str]:
    return [line for line in content.decode("utf-8", "surrogateescape").split("\n") if line]
