"""The state of a library's signed lists: `LIBRARY/trust/state.json`, one file, replaced atomically.

LIBRARY/trust/state.json       subscriptions, the valid version of each list, and which image came by which
LIBRARY/trust/HEX.smime        the signed messages of these lists, by their SHA-256
LIBRARY/trust/lock             held by the process that changes them

This is on the path of every job whose library has subscriptions: nothing heavy is imported here.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from dayfly import disknames, files
from dayfly.errors import Corrupt, Refused
from dayfly.image.fields import Fields, decode, encode
from dayfly.image.layout import Layout
from dayfly.image.reference import is_digest
from dayfly.values import asdict, dataclass, field

NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_LIMIT = 64 * 1024**2
_MOST_LISTS = 1000
_MOST_IMAGES = 100_000
_VERSION = 1
_HEX = re.compile(r"[0-9a-f]{64}")
_ALWAYS = 1 << 40


@dataclass(frozen=True)
class Accepted:
    """The accepted version of a list. Times are seconds since the epoch.

    It is valid until `until`: then the list or its signer's certificate expires. `signed` is the SHA-256 of the signed
    message, `content` that of its content; `watched` are the fingerprints (`fingerprint`) of the files that the signature was
    checked with. `weak` is what of its signature is too weak, but was accepted. All fields are empty if no version of the
    list was fetched yet.
    """

    version: str = ""
    created: int = 0
    until: int = 0
    updated: int = 0
    endorser: str = ""
    issuer: str = ""
    signed: str = ""
    content: str = ""
    title: str = ""
    watched: Mapping[str, str] = field(default_factory=dict)
    weak: tuple[str, ...] = ()


@dataclass(frozen=True)
class Subscription:
    """A subscription: where a list is, who may sign it, and which authority must have issued the certificate. Empty `revoked`:
    revocation is not checked.
    """

    place: str
    identifier: str
    endorsers: tuple[str, ...]
    issuer: str
    authorities: tuple[str, ...]
    revocations: tuple[str, ...]
    accepted: Accepted


@dataclass(frozen=True)
class Entry:
    """How an image came by a list: the list, the identifier, the file, the end of validity; and why it may not be run any more.

    `until` is the image's own end, in seconds since the epoch. `stopped` is a message (may be empty).
    """

    list: str
    identifier: str
    title: str
    checksum: str
    version: str
    origin: str
    endorser: str
    entered: int
    until: int
    stopped: str = ""


@dataclass(frozen=True)
class Identity:
    """A keyless signer: the names in the certificates of its short-lived keys, and the authority that issues them.

    `subject` is an e-mail address or a URI, `issuer` the URL of the OpenID provider that the certification authority asked.
    `roots` are the authority's certificates, `log` is the public key of the log that records when a key was used; both PEM.
    """

    subject: str
    issuer: str
    roots: str
    log: str


@dataclass(frozen=True)
class State:
    """The whole state. `images` are by digest; those of `local` were in the library before a list named them.

    `keys` are the trusted public keys (PEM) by name, and `identities` the trusted keyless signers; no name is in both.
    `signed` are the digests of images with a valid signature by one of these, with the names.
    """

    lists: Mapping[str, Subscription] = field(default_factory=dict)
    images: Mapping[str, tuple[Entry, ...]] = field(default_factory=dict)
    local: tuple[str, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict)
    identities: Mapping[str, Identity] = field(default_factory=dict)
    signed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def endorser(self, name: str) -> str:
        """The key or identity of this name as policies name it; empty if it is not trusted any more."""
        kind = "key" if name in self.keys else "identity" if name in self.identities else ""
        return f"{kind}:{name}" if kind else ""


def render(state: State) -> bytes:
    """The file's content."""
    return encode({"version": _VERSION, **asdict(state)})


def parse(content: bytes, place: str = disknames.TRUST_STATE) -> State:
    """Read the file. Raises `Refused`."""
    fields = decode(content, place)
    fields.number("version", _VERSION, _VERSION)
    lists, keys, identities = (fields.section(name) for name in ("lists", "keys", "identities"))
    images, signed = fields.section("images"), fields.section("signed")
    names, digests = (*lists.values, *keys.values, *identities.values), (*images.values, *signed.values)
    if len(names) > _MOST_LISTS or len(digests) > _MOST_IMAGES:
        raise Refused(f"{place} has too many lists or images")
    if not all(map(NAME.fullmatch, names)) or not all(map(is_digest, digests)):
        raise Refused(f"{place} has an invalid name or digest")
    if not all(isinstance(pem, str) for pem in keys.values.values()):
        raise Refused(f"{place} has an invalid key")
    return State(
        {name: _subscription(lists.section(name)) for name in lists.values},
        {digest: _entries(images, digest) for digest in images.values},
        _texts(fields, "local", _MOST_IMAGES),
        {name: str(pem) for name, pem in keys.values.items()},
        {name: _identity(identities.section(name)) for name in identities.values},
        {digest: _texts(signed, digest) for digest in signed.values},
    )


def _subscription(fields: Fields) -> Subscription:
    accepted = fields.section("accepted")
    return Subscription(
        place=fields.text("place", limit=4096),
        identifier=fields.text("identifier"),
        endorsers=_texts(fields, "endorsers"),
        issuer=fields.text("issuer"),
        authorities=_texts(fields, "authorities"),
        revocations=_texts(fields, "revocations"),
        accepted=Accepted(
            version=accepted.text("version"),
            created=accepted.number("created", 0, _ALWAYS),
            until=accepted.number("until", 0, _ALWAYS),
            updated=accepted.number("updated", 0, _ALWAYS),
            endorser=accepted.text("endorser"),
            issuer=accepted.text("issuer"),
            signed=accepted.text("signed", _HEX),
            content=accepted.text("content", _HEX),
            title=accepted.text("title"),
            watched=accepted.table("watched", entries=1000, limit=256),
            weak=_texts(accepted, "weak"),
        ),
    )


def _identity(fields: Fields) -> Identity:
    roots, log = (fields.values.get(name) for name in ("roots", "log"))
    if not isinstance(roots, str) or not isinstance(log, str):
        raise Refused(f"{fields.place} has no roots, or no log key")
    return Identity(fields.text("subject"), fields.text("issuer"), roots, log)


def _entries(images: Fields, digest: str) -> tuple[Entry, ...]:
    found = []
    for index, element in enumerate(images.items(digest, _MOST_LISTS)):
        fields = Fields.of(element, f"{images.place}.{digest}[{index}]")
        found.append(
            Entry(
                list=fields.text("list", NAME),
                identifier=fields.text("identifier"),
                title=fields.text("title"),
                checksum=fields.text("checksum"),
                version=fields.text("version"),
                origin=fields.text("origin"),
                endorser=fields.text("endorser"),
                entered=fields.number("entered", 0, _ALWAYS),
                until=fields.number("until", 0, _ALWAYS),
                stopped=fields.text("stopped"),
            )
        )
    return tuple(found)


def _texts(fields: Fields, name: str, limit: int = 1000) -> tuple[str, ...]:
    texts = fields.items(name, limit)
    if not all(isinstance(text, str) for text in texts):
        raise Refused(f"{fields.place}.{name} is not a list of texts")
    return tuple(map(str, texts))


def read(layout: Layout) -> State | None:
    """A library's state; None if it has never had a subscription. Raises `Corrupt`: then none of its images may be run."""
    path = layout.trust / disknames.TRUST_STATE
    try:
        return parse(files.read(path, _LIMIT), str(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise Corrupt(f"{path} cannot be read, so it is not known which images may be run: {error.strerror}") from error
    except Refused as error:
        hint = "restore the file; without it nobody endorses the images that came by lists"
        raise Corrupt(f"it is not known which images may be run: {error.message}", hint) from error


@contextlib.contextmanager
def changing(layout: Layout) -> Iterator[list[State]]:
    """Change the state under its lock: the block appends the new state to the list, and it is written if the block succeeds."""
    with files.locked(layout.trust / disknames.TRUST_LOCK):
        versions = [read(layout) or State()]
        try:
            yield versions
        except BaseException:
            _sweep(layout.trust, versions[0])
            raise
        if len(versions) > 1:
            files.write(layout.trust / disknames.TRUST_STATE, render(versions[-1]))
            _sweep(layout.trust, versions[-1])


def _sweep(folder: Path, state: State) -> None:
    """Remove signed lists that are no longer used, and what a killed process left."""
    kept = {f"{subscription.accepted.signed}{disknames.SIGNED_LIST_SUFFIX}" for subscription in state.lists.values()}
    for path in folder.iterdir():
        if files.is_draft(path.name) or (path.suffix == disknames.SIGNED_LIST_SUFFIX and path.name not in kept):
            path.unlink(missing_ok=True)


def fingerprint(path: str) -> str:
    """A text that changes when a file, or a file in a folder, changes. It is the same on each host with a faithful copy. Empty if
    there is no such file.
    """
    try:
        found = os.stat(path)  # noqa: PTH116 (a hot path)
        if not os.path.isdir(path):  # noqa: PTH112
            return f"{found.st_size} {found.st_mtime_ns}"
        with os.scandir(path) as entries:
            inside = [(entry.name, entry.stat()) for entry in entries if entry.is_file()]
    except OSError:
        return ""
    return f"{len(inside)} {sum(status.st_size for _, status in inside)} {sum(status.st_mtime_ns for _, status in inside)}"


def signed_path(layout: Layout, accepted: Accepted) -> Path:
    """The file of the signed message of an accepted list."""
    return layout.trust / f"{accepted.signed}{disknames.SIGNED_LIST_SUFFIX}"
