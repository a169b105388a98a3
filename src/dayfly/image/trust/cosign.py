"""Signatures of single images, as cosign makes them: ECDSA over P-256, in an artifact beside the image.

The artifact is named `sha256-HEX.sig` after the image's digest. Each of its layers is a payload ("simple signing", as
containers/image describes it), with the signature as an annotation (cosign's SIGNATURE_SPEC.md). A signature is valid by a
trusted key, or by a certificate of a trusted identity (`dayfly.image.trust.keyless`).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from pathlib import Path

from dayfly import files
from dayfly.errors import Corrupt, NotFound, Refused
from dayfly.image import blobs
from dayfly.image.fields import Fields, decode, encode, line
from dayfly.image.layout import REF_NAME, Index, Layout, changing
from dayfly.image.library import Library
from dayfly.image.manifest import CONFIG_TYPE, MANIFEST_LIMIT, MANIFEST_TYPE, Descriptor, parse_descriptor
from dayfly.image.trust import keyless, state, strength
from dayfly.image.trust.openssl import CERTIFICATE, Memory, certificates, holds, public_key
from dayfly.image.trust.state import Identity, State
from dayfly.image.trust.subscriptions import prepare
from dayfly.values import dataclass, replace

PAYLOAD_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
ANNOTATION = "dev.cosignproject.cosign/signature"
PAYLOAD_LIMIT = 64 * 1024
MOST = 100
"""The most signatures of one image."""
_KIND = "cosign container image signature"
_MOST_NOTES = 32
_NOTE_LIMIT = 32 * 1024


@dataclass(frozen=True)
class Signature:
    """A payload and its annotations: the signature, and optionally a certificate and a log entry."""

    content: bytes
    annotations: Mapping[str, str]

    def signature(self, what: str) -> bytes:
        """The signature of the payload. Raises `Corrupt`."""
        try:
            return base64.b64decode(self.annotations.get(ANNOTATION, ""), validate=True)
        except (binascii.Error, ValueError):
            raise Corrupt(f"{what}: a payload has no signature") from None


def add_key(library: Library, name: str, path: Path) -> None:
    """Trust a public key. Raises `Refused`."""
    pem = public_key(path)
    prepare(library)
    with state.changing(library.layout) as versions:
        before = versions[-1]
        if name in before.identities or before.keys.get(name, pem) != pem:
            raise _taken(name)
        versions.append(replace(before, keys={**before.keys, name: pem}))


def add_identity(library: Library, name: str, subject: str, issuer: str, roots: Path, log: Path) -> None:
    """Trust an identity, by the certificates of an authority. Raises `Refused`."""
    given = certificates(roots)
    weak = [why for pem in CERTIFICATE.findall(given) for why in strength.of_certificate(pem, "the authority", root=True)]
    if weak:
        raise Refused(f"{roots} is too weak: {'; '.join(weak)}")
    identity = Identity(line(subject, "the subject", 1024), line(issuer, "the issuer", 1024), given, public_key(log))
    prepare(library)
    with state.changing(library.layout) as versions:
        before = versions[-1]
        if name in before.keys or before.identities.get(name, identity) != identity:
            raise _taken(name)
        versions.append(replace(before, identities={**before.identities, name: identity}))


def _taken(name: str) -> Refused:
    return Refused(f"there is already a key {name}", "remove that one, or choose another name")


def remove_key(library: Library, name: str) -> None:
    """Stop trusting a key or an identity, and what it has signed. Raises `NotFound`."""
    prepare(library)
    with state.changing(library.layout) as versions:
        before = versions[-1]
        if not before.endorser(name):
            raise NotFound(f"there is no key {name}", "`dayfly trust list` shows them")
        keys = {other: pem for other, pem in before.keys.items() if other != name}
        identities = {other: who for other, who in before.identities.items() if other != name}
        signed = {digest: tuple(other for other in names if other != name) for digest, names in before.signed.items()}
        left = {digest: names for digest, names in signed.items() if names}
        versions.append(replace(before, keys=keys, identities=identities, signed=left))


def verify(library: Library, digest: str) -> list[str]:
    """Verify the signatures of an image, and note the trusted signers by their names in policies: `key:NAME` or `identity:NAME`.

    Raises `Refused` if none is by a trusted key, `NotFound` if there is no signature, `Corrupt`.
    """
    prepare(library)
    with state.changing(library.layout) as versions:
        before = versions[-1]
        others = {other: names for other, names in before.signed.items() if other != digest}
        names = signers(library, digest, before)
        versions.append(replace(before, signed={**others, digest: tuple(names)} if names else others))
    if not names:
        trusted = ", ".join(sorted({*before.keys, *before.identities})) or "none"
        weak = too_weak(library, digest, before)
        if weak:
            raise Refused(f"the signature of {digest} is too weak: {'; '.join(weak)}", f"trusted: {trusted}")
        raise Refused(f"no trusted key has signed {digest}", f"trusted: {trusted}")
    return [before.endorser(name) for name in names]


def tag(digest: str) -> str:
    """The name of the artifact with an image's signatures."""
    return f"{digest.replace(':', '-')}.sig"


def payload(digest: str, name: str) -> bytes:
    """The payload that is signed for an image."""
    image = {"docker-manifest-digest": digest}
    critical = {"identity": {"docker-reference": name}, "image": image, "type": _KIND}
    return encode({"critical": critical, "optional": None})


def signed_digest(content: bytes) -> str:
    """The digest that a payload is about. Raises `Refused`."""
    critical = decode(content, "the payload").section("critical")
    if critical.values.get("type") != _KIND:
        raise Refused("the payload is not in cosign's format")
    return critical.section("image").text("docker-manifest-digest", limit=200)


def sign(library: Library, digest: str, name: str, key: Path) -> None:
    """Sign an image with a key (ECDSA over P-256, PEM without a passphrase). Existing signatures stay.

    Raises `DayflyError`.
    """
    content = payload(digest, name)
    with Memory() as memory:
        hint = "the key must be PEM, without a passphrase"
        signature = memory.run(["dgst", "-sha256", "-sign", str(key), memory.file(content)], hint=hint).output
    attach(library, digest, [Signature(content, {ANNOTATION: base64.b64encode(signature).decode()})])


def attach(library: Library, digest: str, new: Sequence[Signature]) -> None:
    """Add signatures of an image to a library. Existing signatures stay."""
    layout, name = library.layout, tag(digest)
    with files.locked(layout.adding, shared=True), changing(layout) as versions:
        index = versions[-1]
        before = _listed(layout, index, digest)
        every = united(before, new)
        if every != before:
            descriptor = Descriptor(MANIFEST_TYPE, *store(layout, every), {REF_NAME: name})
            versions.append(index.without_name(name).listing(descriptor))


def united(before: Sequence[Signature], new: Sequence[Signature]) -> list[Signature]:
    """Both, without duplicates: the last `MOST` of them."""
    return [*before, *(signature for signature in new if signature not in before)][-MOST:]


def store(layout: Layout, every: Sequence[Signature]) -> tuple[str, int]:
    """Put an artifact with these signatures among a layout's blobs, without a name: its digest and size."""
    config = encode({"architecture": "", "os": "", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}})
    layers = [Descriptor(PAYLOAD_TYPE, *blobs.store(layout, one.content), one.annotations).render() for one in every]
    described = Descriptor(CONFIG_TYPE, *blobs.store(layout, config)).render()
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": described, "layers": layers}
    return blobs.store(layout, encode(manifest))


def signers(library: Library, digest: str, trusted: State) -> list[str]:
    """The names of the trusted signers of an image. Raises `NotFound` if it has no signature, `Refused` or `Corrupt`."""
    found: set[str] = set()
    for one in signatures(library, digest):
        if signed_digest(one.content) == digest:
            signature = one.signature(f"the signatures of {digest}")
            found |= {name for name, pem in trusted.keys.items() if name not in found and holds(pem, one.content, signature)}
            found |= {
                name
                for name, identity in trusted.identities.items()
                if name not in found and keyless.holds(identity, one.content, signature, one.annotations)
            }
    return sorted(found)


def too_weak(library: Library, digest: str, trusted: State) -> list[str]:
    """Why signatures by trusted identities are too weak to count. Raises as `signers`."""
    found = [one for one in signatures(library, digest) if signed_digest(one.content) == digest]
    return [
        why
        for one in found
        for identity in trusted.identities.values()
        if keyless.is_by(identity, one.content, one.signature(f"the signatures of {digest}"), one.annotations)
        for why in keyless.weakness(one.annotations)
    ]


def signatures(library: Library, digest: str) -> list[Signature]:
    """The signatures of an image in the library. Raises `NotFound` if there are none, `Refused` or `Corrupt`."""
    found = _listed(library.layout, library.index(), digest)
    if not found:
        raise NotFound(f"{digest} has no signature", f"`dayfly image pull` fetches signatures too, as {tag(digest)}")
    return found


def _listed(layout: Layout, index: Index, digest: str) -> list[Signature]:
    entry = index.find(tag(digest))
    if entry is None:
        return []
    what = f"the signatures of {digest}"
    manifest = blobs.read_blob(layout, entry.descriptor, MANIFEST_LIMIT, what)
    return [Signature(blobs.read_blob(layout, found, PAYLOAD_LIMIT, what), notes) for found, notes in parse(manifest, what)]


def parse(manifest: bytes, what: str) -> list[tuple[Descriptor, dict[str, str]]]:
    """The payloads in an artifact of signatures, each with its annotations. Raises `Refused`."""
    found = []
    for index, element in enumerate(decode(manifest, what).items("layers", MOST)):
        layer = Fields.of(element, f"{what}: layers[{index}]")
        descriptor = parse_descriptor(layer, annotated=False)
        if descriptor.media_type == PAYLOAD_TYPE:
            found.append((descriptor, _annotations(layer)))
    return found


def _annotations(layer: Fields) -> dict[str, str]:
    """The annotations of a signature; certificates have several lines."""
    notes = layer.section("annotations").values
    if len(notes) > _MOST_NOTES or not all(isinstance(note, str) and len(note) <= _NOTE_LIMIT for note in notes.values()):
        raise Refused(f"{layer.place} has too many annotations, or too long ones")
    return {name: str(note) for name, note in notes.items()}
