"""What a library knows of its signed lists: `LIBRARY/trust/state.json`, one file, replaced whole.

LIBRARY/trust/state.json       subscriptions, the version of each list that is in force, and which image came by which
LIBRARY/trust/HEX.smime        the signed lists that are in force, by their sha256
LIBRARY/trust/lock             held by whoever changes them

On the way of every job whose library has subscriptions: nothing heavy is imported here.
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
    """The version of a list that is in force. Times are seconds since the epoch.

    It is so until `until`: then the list has expired, or its signer's certificate. `signed` is the sha256 of the signed message,
    `content` that of what was signed; `watched` is what the files looked like by which the signature was judged (`fingerprint`).
    `weak` is what of its signature is too weak, though it was accepted. Without any of this, no version of the list has come yet.
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
    """Whom to believe: where a list is, who may sign it, and who says that it is they. Empty `revoked`: nobody is asked."""

    place: str
    identifier: str
    endorsers: tuple[str, ...]
    issuer: str
    authorities: tuple[str, ...]
    revocations: tuple[str, ...]
    accepted: Accepted


@dataclass(frozen=True)
class Entry:
    """How an image came by a list: by which, under which identifier, as which file, until when; and why it may not be run any
    more.

    `until` is the image's own end, as seconds since the epoch. `stopped` (may be empty) is for people.
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
    """Somebody who signs with keys that last minutes: what the certificates of such keys say, and who vouches for that.

    `subject` is an address of mail or a URI, `issuer` who the certification authority asked (an OpenID provider's URL). `roots`
    are the authority's certificates, `log` is the public key of the log that says when a key was used; both PEM.
    """

    subject: str
    issuer: str
    roots: str
    log: str


@dataclass(frozen=True)
class State:
    """All of it. `images` are by their digests; those of `local` were in the library before a list named them.

    `keys` are public keys (PEM) that are believed, by their names, and `identities` are those whose keys certificates name; no
    name is in both. `signed` are the digests of images for which a signature by such was found to hold, with their names.
    """

    lists: Mapping[str, Subscription] = field(default_factory=dict)
    images: Mapping[str, tuple[Entry, ...]] = field(default_factory=dict)
    local: tuple[str, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict)
    identities: Mapping[str, Identity] = field(default_factory=dict)
    signed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def endorser(self, name: str) -> str:
        """What policies call the key or the identity of this name; empty where nobody believes it any more."""
        kind = "key" if name in self.keys else "identity" if name in self.identities else ""
        return f"{kind}:{name}" if kind else ""


def render(state: State) -> bytes:
    """The file."""
    return encode({"version": _VERSION, **asdict(state)})


def parse(content: bytes, place: str = disknames.TRUST_STATE) -> State:
    """Read the file. Raises `Refused`."""
    fields = decode(content, place)
    fields.number("version", _VERSION, _VERSION)
    lists, keys, identities = (fields.section(name) for name in ("lists", "keys", "identities"))
    images, signed = fields.section("images"), fields.section("signed")
    names, digests = (*lists.values, *keys.values, *identities.values), (*images.values, *signed.values)
    if len(names) > _MOST_LISTS or len(digests) > _MOST_IMAGES:
        raise Refused(f"{place} has more lists or images than it may have")
    if not all(map(NAME.fullmatch, names)) or not all(map(is_digest, digests)):
        raise Refused(f"{place} has a name or a digest that is none")
    if not all(isinstance(pem, str) for pem in keys.values.values()):
        raise Refused(f"{place} has a key that is none")
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
        raise Refused(f"{fields.place} has no roots, or no key of a log")
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
        raise Refused(f"{fields.place}.{name} is no list of texts")
    return tuple(map(str, texts))


def read(layout: Layout) -> State | None:
    """What a library knows; None where it has never had a subscription. Raises `Corrupt`: then nothing of it may be run."""
    path = layout.trust / disknames.TRUST_STATE
    try:
        return parse(files.read(path, _LIMIT), str(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise Corrupt(f"{path} cannot be read, and nobody knows which images may be run: {error.strerror}") from error
    except Refused as error:
        hint = "restore the file; without it the images that came by a list are nobody's"
        raise Corrupt(f"nobody knows which images may be run: {error.message}", hint) from error


@contextlib.contextmanager
def changing(layout: Layout) -> Iterator[list[State]]:
    """Change the state under its lock: the block puts the new one last into the list, and it is written when all went well."""
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
    """Remove signed lists that are in force no more, and what a kill left."""
    kept = {f"{subscription.accepted.signed}{disknames.SIGNED_LIST_SUFFIX}" for subscription in state.lists.values()}
    for path in folder.iterdir():
        if files.is_draft(path.name) or (path.suffix == disknames.SIGNED_LIST_SUFFIX and path.name not in kept):
            path.unlink(missing_ok=True)


def fingerprint(path: str) -> str:
    """What changes when a file does, or one in a folder; the same on each host that has a faithful copy. Empty: not there."""
    try:
        found = os.stat(path)  # noqa: PTH116 (on the way to a job's start)
        if not os.path.isdir(path):  # noqa: PTH112
            return f"{found.st_size} {found.st_mtime_ns}"
        with os.scandir(path) as entries:
            inside = [(entry.name, entry.stat()) for entry in entries if entry.is_file()]
    except OSError:
        return ""
    return f"{len(inside)} {sum(status.st_size for _, status in inside)} {sum(status.st_mtime_ns for _, status in inside)}"


def signed_path(layout: Layout, accepted: Accepted) -> Path:
    """Where the signed message of a list is that is in force."""
    return layout.trust / f"{accepted.signed}{disknames.SIGNED_LIST_SUFFIX}"
