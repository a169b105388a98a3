"""Signatures of single images by key pairs, as cosign makes them: ECDSA over P-256, in an artifact beside the image.

The artifact is named `sha256-HEX.sig` after the image's digest. Each of its layers is a payload ("simple signing", as
containers/image describes it), with the signature as an annotation (cosign's SIGNATURE_SPEC.md).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from pathlib import Path

from dayfly import files
from dayfly.errors import Corrupt, NotFound, Refused
from dayfly.image import blobs
from dayfly.image.fields import Fields, decode, encode
from dayfly.image.layout import REF_NAME, changing
from dayfly.image.library import Library
from dayfly.image.manifest import CONFIG_TYPE, MANIFEST_LIMIT, MANIFEST_TYPE, Descriptor, parse_descriptor
from dayfly.image.trust import state
from dayfly.image.trust.openssl import Memory
from dayfly.image.trust.subscriptions import prepare
from dayfly.values import replace

PAYLOAD_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
ANNOTATION = "dev.cosignproject.cosign/signature"
KEY_LIMIT = 64 * 1024
_KIND = "cosign container image signature"
_PAYLOAD_LIMIT = 64 * 1024
_MOST = 100


def add_key(library: Library, name: str, path: Path) -> None:
    """Believe a public key from now on. Raises `Refused`."""
    pem = public_key(path)
    prepare(library)
    with state.changing(library.layout) as versions:
        if versions[-1].keys.get(name, pem) != pem:
            raise Refused(f"there is another key {name} already", "remove that one, or give this one another name")
        versions.append(replace(versions[-1], keys={**versions[-1].keys, name: pem}))


def remove_key(library: Library, name: str) -> None:
    """Believe a key no more, nor what it has signed. Raises `NotFound`."""
    prepare(library)
    with state.changing(library.layout) as versions:
        before = versions[-1]
        if name not in before.keys:
            raise NotFound(f"there is no key {name}", "`dayfly trust list` shows them")
        keys = {other: pem for other, pem in before.keys.items() if other != name}
        signed = {digest: tuple(other for other in names if other != name) for digest, names in before.signed.items()}
        versions.append(replace(before, keys=keys, signed={digest: names for digest, names in signed.items() if names}))


def verify(library: Library, digest: str) -> list[str]:
    """Look for believed signatures of an image, and note who they are of: the keys' names.

    Raises `Refused` where none is by a key that is believed, `NotFound` where there is none at all, `Corrupt`.
    """
    prepare(library)
    with state.changing(library.layout) as versions:
        before = versions[-1]
        others = {other: names for other, names in before.signed.items() if other != digest}
        names = signers(library, digest, before.keys)
        versions.append(replace(before, signed={**others, digest: tuple(names)} if names else others))
    if not names:
        raise Refused(f"no key that is believed has signed {digest}", f"believed: {', '.join(sorted(before.keys)) or 'none'}")
    return names


def tag(digest: str) -> str:
    """The name of the artifact with an image's signatures."""
    return f"{digest.replace(':', '-')}.sig"


def public_key(path: Path) -> str:
    """A public key in a file of PEM. Raises `Refused` for anything but ECDSA over P-256, which is what cosign makes."""
    pem = files.read(path, KEY_LIMIT)
    with Memory() as memory:
        done = memory.run(["pkey", "-pubin", "-in", memory.file(pem), "-text_pub"], check=False)
    text = done.output.decode(errors="replace")
    if done.status != 0 or "prime256v1" not in text:
        raise Refused(f"{path} is no public key of ECDSA over P-256", "as `cosign generate-key-pair` writes into cosign.pub")
    begin = text.index("-----BEGIN PUBLIC KEY-----")
    return text[begin : text.index("-----END PUBLIC KEY-----")] + "-----END PUBLIC KEY-----\n"


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
    try:
        layers = [raw for raw, _, _ in _layers(library, digest)]
    except NotFound:
        layers = []
    config = encode({"architecture": "", "os": "", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}})
    with files.locked(library.layout.adding, shared=True):
        stored = Descriptor(
            PAYLOAD_TYPE, *blobs.store(library.layout, content), {ANNOTATION: base64.b64encode(signature).decode()}
        )
        described = Descriptor(CONFIG_TYPE, *blobs.store(library.layout, config))
        manifest = encode(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "config": described.render(),
                "layers": [*layers, stored.render()],
            }
        )
        _name(library, *blobs.store(library.layout, manifest), tag(digest))


def _name(library: Library, digest: str, size: int, name: str) -> None:
    """Put the artifact into the index, in the place of the one before."""
    with changing(library.layout) as versions:
        versions.append(versions[-1].without_name(name).listing(Descriptor(MANIFEST_TYPE, digest, size, {REF_NAME: name})))


def signers(library: Library, digest: str, keys: Mapping[str, str]) -> list[str]:
    """The names of the keys that have signed an image. Raises `NotFound` where nobody has, `Refused` or `Corrupt`."""
    found: set[str] = set()
    for _, content, signature in _layers(library, digest):
        if signed_digest(content) == digest:
            found |= {name for name, pem in keys.items() if name not in found and _holds(pem, content, signature)}
    return sorted(found)


def _holds(pem: str, content: bytes, signature: bytes) -> bool:
    with Memory() as memory:
        words = ["dgst", "-sha256", "-verify", memory.file(pem.encode()), "-signature", memory.file(signature)]
        return memory.run([*words, memory.file(content)], check=False).status == 0


def _layers(library: Library, digest: str) -> Iterator[tuple[Mapping[str, object], bytes, bytes]]:
    """The signatures of an image: each as the manifest has it, its payload, and what signs that."""
    entry = library.index().find(tag(digest))
    if entry is None:
        raise NotFound(f"nobody has signed {digest}", f"copy its signatures into the library, as {tag(digest)}")
    what = f"the signatures of {digest}"
    fields = decode(blobs.read_blob(library.layout, entry.descriptor, MANIFEST_LIMIT, what), what)
    for index, element in enumerate(fields.items("layers", _MOST)):
        layer = Fields.of(element, f"{what}: layers[{index}]")
        found = parse_descriptor(layer)
        if found.media_type != PAYLOAD_TYPE:
            continue
        try:
            signature = base64.b64decode(found.annotations.get(ANNOTATION, ""), validate=True)
        except (binascii.Error, ValueError):
            raise Corrupt(f"{what}: layers[{index}] has no signature") from None
        yield layer.values, blobs.read_blob(library.layout, found, _PAYLOAD_LIMIT, what), signature
