"""The required strength of signatures: SHA-256, and RSA keys of 2048 bits or elliptic curves of 256 (docs/decisions/0123).

A weaker signature can be forged without the key, so it says nothing about who signed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from dayfly.errors import Refused
from dayfly.image.trust.der import one, within
from dayfly.image.trust.openssl import CERTIFICATE, Memory

RSA_BITS = 2048
CURVE_BITS = 256
_SIZES = ("256", "384", "512")
_STRONG = frozenset(
    form.format(size)
    for size in _SIZES
    for form in ("sha{}withrsaencryption", "ecdsa-with-sha{}", "rsa-sha3-{}", "ecdsa_with_sha3-{}", "sha{}", "sha3-{}")
) | {"ed25519", "ed448"}
"""Signatures, and the digests of RSASSA-PSS, as openssl names them, in lower case."""
_HASH = re.compile(r"Hash Algorithm: (\S+)")
_SIGNED = re.compile(r"^\s*Signature Algorithm: (\S+)", re.MULTILINE)
_KEY = re.compile(r"^\s*Public Key Algorithm: (\S+)", re.MULTILINE)
_BITS = re.compile(r"^\s*Public-Key: \(([0-9]{1,6}) bit", re.MULTILINE)
_CURVE = re.compile(r"^\s*ASN1 OID: (\S+)", re.MULTILINE)
_SHOWN = "no_header,no_version,no_serial,no_issuer,no_validity,no_subject,no_extensions,no_sigdump,no_aux"
"""The parts of a certificate that hold no free text: algorithms and the key (openssl-x509(1), "Text Printing Flags")."""

_DIGESTS = {
    bytes.fromhex("2a864886f70d0205"): "MD5",
    bytes.fromhex("2b0e03021a"): "SHA-1",
    bytes.fromhex("608648016503040204"): "SHA-224",
}
"""Object identifiers of digests that are too weak, with names for messages (RFC 3279, 2.1; RFC 5754, 2)."""
_ENOUGH = tuple(bytes.fromhex(f"6086480165030402{number}") for number in ("01", "02", "03", "08", "09", "0a"))
"""SHA-256, SHA-384, SHA-512 (RFC 5754, 2), and SHA3 of these sizes (RFC 8702)."""
_SEQUENCE, _SET, _OBJECT, _CONTENT = 0x30, 0x31, 0x06, 0xA0


def of_message(cms: bytes) -> list[str]:
    """What is too weak about the digests that sign a message, given in DER (RFC 5652, 5.1). Raises `Refused`."""
    weak = [_DIGESTS.get(name, "of an unknown type") for name in _digests(cms) if name not in _ENOUGH]
    return [f"the list is signed with the digest {name}: at least SHA-256 is required" for name in weak]


def _digests(cms: bytes) -> Iterator[bytes]:
    """The object identifier of each signer's digest."""
    content = list(within(one(cms, _SEQUENCE)))
    if [tag for tag, _ in content] != [_OBJECT, _CONTENT]:
        raise Refused("the signature is malformed")
    signers = [value for tag, value in within(one(content[1][1], _SEQUENCE)) if tag == _SET][-1:]
    for _, signer in within(b"".join(signers)):
        parts = list(within(signer))  # version, whose certificate, digest, and more (RFC 5652, 5.3)
        if len(parts) < 3 or parts[2][0] != _SEQUENCE:
            raise Refused("the signature is malformed")
        yield next(within(parts[2][1]), (0, b""))[1]


def of_chain(certificates: Sequence[str]) -> list[str]:
    """What is too weak about a signer's certificate (the first one) and those that issued it, up to the root.

    A root is trusted by itself and not for its signature, so only its key counts.
    """
    last = len(certificates) - 1
    who = ["the signer", *["the authority"] * last]
    return [why for number, pem in enumerate(certificates) for why in of_certificate(pem, who[number], root=number == last)]


def of_certificate(pem: str, who: str, *, root: bool) -> list[str]:
    """What is too weak about one certificate."""
    algorithms, name = _shown(pem)
    return [f"the certificate of {who} {name} {why}" for why in _weak(algorithms, root=root)]


def _weak(text: str, *, root: bool) -> Iterator[str]:
    signed, kind = (found[1] if (found := pattern.search(text)) else "unknown" for pattern in (_SIGNED, _KEY))
    digest = signed
    if signed.lower() == "rsassapss":
        before_the_key = text.partition("Subject Public Key Info")[0]
        digest = found[1] if (found := _HASH.search(before_the_key)) else "sha1"
    if not root and digest.lower() not in _STRONG:
        yield f"is signed by {signed if digest == signed else f'{signed} with {digest}'}: at least SHA-256 is required"
    bits = int(found[1]) if (found := _BITS.search(text)) else 0
    if kind in ("rsaEncryption", "rsassaPss"):
        if bits < RSA_BITS:
            yield f"has an RSA key of {bits} bits: at least {RSA_BITS} are required"
    elif kind == "id-ecPublicKey":
        curve = found[1] if (found := _CURVE.search(text)) else ""
        if bits < CURVE_BITS or not curve:
            yield f"has a key on the curve {curve or 'without a name'}, of {bits} bits: at least P-256 is required"
    elif kind.lower() not in ("ed25519", "ed448"):
        yield f"has a key of the type {kind}: RSA, an elliptic curve or Ed25519 is required"


def _shown(pem: str) -> tuple[str, str]:
    """The algorithms of a certificate as text, and its name."""
    with Memory() as memory:
        place = memory.file(pem.encode())
        algorithms = memory.run(["x509", "-noout", "-text", "-certopt", _SHOWN, "-in", place]).output.decode(errors="replace")
        name = memory.run(["x509", "-noout", "-subject", "-nameopt", "compat", "-in", place]).output.decode(errors="replace")
    return algorithms, name.strip().removeprefix("subject=")[:200]


def chain(signer: bytes, others: bytes, trusted: Sequence[str], memory: Memory) -> list[str]:
    """The certificates (PEM) from a signer's up to a root, as openssl finds them. `others` may be among them.

    `trusted` are openssl's options with the trusted certificates. Raises `Refused`.
    """
    made, words = memory.file(), ["pkcs12", "-export", "-nokeys", "-certpbe", "NONE", "-nomac", "-passout", "pass:", "-chain"]
    words += ["-untrusted", memory.file(others)] if b"-----BEGIN CERTIFICATE-----" in others else []
    done = memory.run([*words, *trusted, "-in", memory.file(signer), "-out", made], check=False)
    read = memory.run(["pkcs12", "-nokeys", "-passin", "pass:", "-in", made], check=False)
    found = CERTIFICATE.findall(read.output.decode(errors="replace"))
    if done.status or read.status or not found:
        raise Refused("no chain of certificates from the signer to a root was found")
    return list(found)
