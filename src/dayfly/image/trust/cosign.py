"""Signatures of single images, as cosign makes them: ECDSA over P-256, in an artifact beside the image.

The artifact is named `sha256-HEX.sig` after the image's digest. Each of its layers is a payload ("simple signing", as
containers/image describes it), with the signature as an annotation (cosign's SIGNATURE_SPEC.md). A signature holds by a key that
is believed, or by a certificate of somebody who is (`dayfly.image.trust.keyless`).
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
"""Signatures of one image."""
_KIND = "cosign container image signature"
_MOST_NOTES = 32
_NOTE_LIMIT = 32 * 1024


@dataclass(frozen=True)
class Signature:
    """A payload, and what is noted at it: the signature, and perhaps a certificate and a log's entry."""

    content: bytes
    annotations: Mapping[str, str]

    def signature(self, what: str) -> bytes:
        """What signs the payload. Raises `Corrupt`."""
        try:
            return base64.b64decode(self.annotations.get(ANNOTATION, ""), validate=True)
        except (binascii.Error, ValueError):
            raise Corrupt(f"{what}: there is one without a signature") from None


def add_key(library: Library, name: str, path: Path) -> None:
    """Believe a public key from now on. Raises `Refused`."""
    pem = public_key(path)
    prepare(library)
    with state.changing(library.layout) as versions:
        before = versions[-1]
        if name in before.identities or before.keys.get(name, pem) != pem:
            raise _taken(name)
        versions.append(replace(before, keys={**before.keys, name: pem}))


def add_identity(library: Library, name: str, subject: str, issuer: str, roots: Path, log: Path) -> None:
    """Believe somebody from now on, by the certificates of an authority. Raises `Refused`."""
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
    return Refused(f"there is another key {name} already", "remove that one, or give this one another name")


def remove_key(library: Library, name: str) -> None:
    """Believe a key or an identity no more, nor what it has signed. Raises `NotFound`."""
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
    """Look for believed signatures of an image, and note who they are of: what policies call them, `key:NAME` or `identity:NAME`.

    Raises `Refused` where none is by a key that is believed, `NotFound` where there is none at all, `Corrupt`.
    """
    prepare(library)
    with state.changing(library.layout) as versions:
        before = versions[-1]
        others = {other: names for other, names in before.signed.items() if other != digest}
        names = signers(library, digest, before)
        versions.append(replace(before, signed={**others, digest: tuple(names)} if names else others))
    if not names:
        believed = ", ".join(sorted({*before.keys, *before.identities})) or "none"
        weak = too_weak(library, digest, before)
        if weak:
            raise Refused(f"the signature of {digest} is too weak: {'; '.join(weak)}", f"believed: {believed}")
        raise Refused(f"no key that is believed has signed {digest}", f"believed: {believed}")
    return [before.endorser(name) for name in names]


def tag(digest: str) -> str:
    """The name of the artifact with an image's signatures."""
    return f"{digest.replace(':', '-')}.sig"


def payload(digest: str, name: str) -> bytes:
    """What is signed of an image."""
    image = {"docker-manifest-digest": digest}
    critical = {"identity": {"docker-reference": name}, "image": image, "type": _KIND}
    return encode({"critical": critical, "optional": None})


def signed_digest(content: bytes) -> str:
    """The digest that a payload is about. Raises `Refused`."""
    critical = decode(content, "the payload").section("critical")
    if critical.values.get("type") != _KIND:
        raise Refused("the payload is none of cosign's")
    return critical.section("image").text("docker-manifest-digest", limit=200)


def sign(library: Library, digest: str, name: str, key: Path) -> None:
    """Sign an image with a key (ECDSA over P-256, PEM without a passphrase), beside the signatures that it has.

    Raises `DayflyError`.
    """
    content = payload(digest, name)
    with Memory() as memory:
        hint = "the key has to be PEM, without a passphrase"
        signature = memory.run(["dgst", "-sha256", "-sign", str(key), memory.file(content)], hint=hint).output
    attach(library, digest, [Signature(content, {ANNOTATION: base64.b64encode(signature).decode()})])


def attach(library: Library, digest: str, new: Sequence[Signature]) -> None:
    """Put signatures of an image into a library, beside those that are there."""
    layout, name = library.layout, tag(digest)
    with files.locked(layout.adding, shared=True), changing(layout) as versions:
        index = versions[-1]
        before = _listed(layout, index, digest)
        every = united(before, new)
        if every != before:
            descriptor = Descriptor(MANIFEST_TYPE, *store(layout, every), {REF_NAME: name})
            versions.append(index.without_name(name).listing(descriptor))


def united(before: Sequence[Signature], new: Sequence[Signature]) -> list[Signature]:
    """The ones and the others, each once: the last `MOST` of them."""
    return [*before, *(signature for signature in new if signature not in before)][-MOST:]


def store(layout: Layout, every: Sequence[Signature]) -> tuple[str, int]:
    """Put an artifact with these signatures among a layout's blobs, without a name: its digest and size."""
    config = encode({"architecture": "", "os": "", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}})
    layers = [Descriptor(PAYLOAD_TYPE, *blobs.store(layout, one.content), one.annotations).render() for one in every]
    described = Descriptor(CONFIG_TYPE, *blobs.store(layout, config)).render()
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": described, "layers": layers}
    return blobs.store(layout, encode(manifest))


def signers(library: Library, digest: str, believed: State) -> list[str]:
    """The names of those who have signed an image. Raises `NotFound` where nobody has, `Refused` or `Corrupt`."""
    found: set[str] = set()
    for one in signatures(library, digest):
        if signed_digest(one.content) == digest:
            signature = one.signature(f"the signatures of {digest}")
            found |= {name for name, pem in believed.keys.items() if name not in found and holds(pem, one.content, signature)}
            found |= {
                name
                for name, identity in believed.identities.items()
                if name not in found and keyless.holds(identity, one.content, signature, one.annotations)
            }
    return sorted(found)


def too_weak(library: Library, digest: str, believed: State) -> list[str]:
    """Why signatures of an image do not count, though they are of somebody who is believed. Raises as `signers`."""
    found = [one for one in signatures(library, digest) if signed_digest(one.content) == digest]
    return [
        why
        for one in found
        for identity in believed.identities.values()
        if keyless.is_by(identity, one.content, one.signature(f"the signatures of {digest}"), one.annotations)
        for why in keyless.weakness(one.annotations)
    ]


def signatures(library: Library, digest: str) -> list[Signature]:
    """What the library has of an image's signatures. Raises `NotFound` where there are none, `Refused` or `Corrupt`."""
    found = _listed(library.layout, library.index(), digest)
    if not found:
        raise NotFound(f"nobody has signed {digest}", f"`dayfly image pull` brings its signatures too, as {tag(digest)}")
    return found


def _listed(layout: Layout, index: Index, digest: str) -> list[Signature]:
    entry = index.find(tag(digest))
    if entry is None:
        return []
    what = f"the signatures of {digest}"
    manifest = blobs.read_blob(layout, entry.descriptor, MANIFEST_LIMIT, what)
    return [Signature(blobs.read_blob(layout, found, PAYLOAD_LIMIT, what), notes) for found, notes in parse(manifest, what)]


def parse(manifest: bytes, what: str) -> list[tuple[Descriptor, dict[str, str]]]:
    """Where the payloads of an artifact with signatures are, and what is noted at each. Raises `Refused`."""
    found = []
    for index, element in enumerate(decode(manifest, what).items("layers", MOST)):
        layer = Fields.of(element, f"{what}: layers[{index}]")
        descriptor = parse_descriptor(layer, annotated=False)
        if descriptor.media_type == PAYLOAD_TYPE:
            found.append((descriptor, _annotations(layer)))
    return found


def _annotations(layer: Fields) -> dict[str, str]:
    """What is noted at a signature: certificates have lines."""
    notes = layer.section("annotations").values
    if len(notes) > _MOST_NOTES or not all(isinstance(note, str) and len(note) <= _NOTE_LIMIT for note in notes.values()):
        raise Refused(f"{layer.place} has more annotations than it may have, or too long ones")
    return {name: str(note) for name, note in notes.items()}
