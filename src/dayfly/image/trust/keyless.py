"""Keyless signatures, as `cosign sign` makes them without a key.

A certification authority (Fulcio) issues a certificate for a key that lasts minutes, and a log (Rekor) signs the time of its use.
Both are annotations of the signature (cosign's SIGNATURE_SPEC.md, "certificate", "chain" and "bundle"). The network is not used.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping

from dayfly.errors import Refused
from dayfly.image.fields import decode, encode
from dayfly.image.trust import strength
from dayfly.image.trust.der import one, within
from dayfly.image.trust.openssl import CERTIFICATE as CERTIFICATES
from dayfly.image.trust.openssl import Memory
from dayfly.image.trust.openssl import holds as signed_by
from dayfly.image.trust.state import Identity
from dayfly.values import dataclass

CERTIFICATE = "dev.sigstore.cosign/certificate"
CHAIN = "dev.sigstore.cosign/chain"
BUNDLE = "dev.sigstore.cosign/bundle"

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----\s+([A-Za-z0-9+/=\s]{1,32768}?)-----END CERTIFICATE-----\s*")
_ALWAYS = 1 << 40
_BODY_LIMIT = 32 * 1024

# Object identifiers as encoded in a certificate (X.690, 8.19), without tag and length.
_ALTERNATIVE_NAME = bytes.fromhex("551d11")  # 2.5.29.17, RFC 5280, 4.2.1.6
_PURPOSES = bytes.fromhex("551d25")  # 2.5.29.37, RFC 5280, 4.2.1.12
_CODE_SIGNING = bytes.fromhex("06082b06010505070303")  # 1.3.6.1.5.5.7.3.3, with tag and length
_ISSUER = bytes.fromhex("2b0601040183bf300101")  # 1.3.6.1.4.1.57264.1.1: the text as it is (Fulcio, oid-info.md)
_ISSUER_TEXT = bytes.fromhex("2b0601040183bf300108")  # 1.3.6.1.4.1.57264.1.8: the same as a UTF8String
_MAIL, _URI = 0x81, 0x86  # RFC 5280, 4.2.1.6: rfc822Name, uniformResourceIdentifier
_SEQUENCE, _OBJECT, _BOOLEAN, _OCTETS, _TEXT, _EXTENSIONS = 0x30, 0x06, 0x01, 0x04, 0x0C, 0xA3


@dataclass(frozen=True)
class Logged:
    """A log entry: `signed` is the content of the log's `signature`. `time` is in seconds since the epoch, `log` the log's
    identifier.
    """

    body: bytes
    time: int
    log: str
    signed: bytes
    signature: bytes


def holds(identity: Identity, content: bytes, signature: bytes, notes: Mapping[str, str]) -> bool:
    """Whether a signature of the content is by this identity, was made while the certificate was valid, and is strong enough.

    A malformed one is not.
    """
    return is_by(identity, content, signature, notes) and not weakness(notes)


def weakness(notes: Mapping[str, str]) -> list[str]:
    """What is too weak about the certificates that came with a signature. The authority's own are checked when it is added."""
    came = [
        ("the signer", notes.get(CERTIFICATE, "")),
        *(("the authority", pem) for pem in CERTIFICATES.findall(notes.get(CHAIN, ""))),
    ]
    return [why for who, pem in came for why in strength.of_certificate(pem, who, root=False)]


def is_by(identity: Identity, content: bytes, signature: bytes, notes: Mapping[str, str]) -> bool:
    """Whether a signature is by this identity, as in `holds`, strong enough or not."""
    try:
        der = _der(notes.get(CERTIFICATE, ""))
        logged = parse_bundle(notes.get(BUNDLE, ""))
        return (
            logged.log == _log_number(identity.log)
            and signed_by(identity.log, logged.signed, logged.signature)
            and is_about(logged.body, content, signature, der)
            and _is_certified(identity.roots, der, notes.get(CHAIN, ""), logged.time)
            and names(der) == (identity.subject, identity.issuer)
            and signed_by(_key_of(der), content, signature)
        )
    except (Refused, ValueError):  # ValueError: not base64
        return False


def parse_bundle(text: str) -> Logged:
    """Read the annotation with a log entry. Raises `Refused`, or `ValueError` if it is not base64."""
    fields = decode(text.encode(), "the bundle")
    entry = fields.section("Payload")
    body = entry.text("body", limit=_BODY_LIMIT)
    time, index, log = entry.number("integratedTime", 0, _ALWAYS), entry.number("logIndex", 0, 1 << 62), entry.text("logID")
    signed = encode({"body": body, "integratedTime": time, "logID": log, "logIndex": index})
    signature = base64.b64decode(fields.text("SignedEntryTimestamp"), validate=True)
    return Logged(base64.b64decode(body, validate=True), time, log, signed, signature)


def is_about(body: bytes, content: bytes, signature: bytes, der: bytes) -> bool:
    """Whether a log entry is about this signature of this content by the key of this certificate. Raises as `parse_bundle`.

    Two types of entries are supported: `hashedrekord` and `rekord`, 0.0.1.
    """
    fields = decode(body, "the log entry")
    if fields.values.get("kind") not in ("hashedrekord", "rekord") or fields.values.get("apiVersion") != "0.0.1":
        return False
    spec = fields.section("spec")
    digest = spec.section("data").section("hash")
    said = spec.section("signature")
    pem = base64.b64decode(said.section("publicKey").text("content", limit=_BODY_LIMIT), validate=True)
    return (
        (digest.values.get("algorithm"), digest.values.get("value")) == ("sha256", hashlib.sha256(content).hexdigest())
        and base64.b64decode(said.text("content"), validate=True) == signature
        and _der(pem.decode(errors="replace")) == der
    )


def names(der: bytes) -> tuple[str, str]:
    """The subject of a certificate, and the issuer that the authority asked. It must be a certificate for signing code. Raises
    `Refused`.
    """
    found = dict(_extensions(der))
    if _CODE_SIGNING not in found.get(_PURPOSES, b""):
        raise Refused("the certificate is not one for signing code")
    alternatives = [value for tag, value in within(one(found.get(_ALTERNATIVE_NAME, b""), _SEQUENCE)) if tag in (_MAIL, _URI)]
    if len(alternatives) != 1:
        raise Refused("the certificate does not name exactly one e-mail address or URI")
    issuer = one(found[_ISSUER_TEXT], _TEXT) if _ISSUER_TEXT in found else found.get(_ISSUER, b"")
    return alternatives[0].decode(), issuer.decode()


def _extensions(der: bytes) -> Iterator[tuple[bytes, bytes]]:
    """A certificate's extensions, each by its object identifier (RFC 5280, 4.1)."""
    to_be_signed = next(within(one(der, _SEQUENCE)), (0, b""))[1]
    for tag, value in within(to_be_signed):
        if tag == _EXTENSIONS:
            for _, extension in within(one(value, _SEQUENCE)):
                parts = [part for part in within(extension) if part[0] != _BOOLEAN]
                if [part[0] for part in parts] != [_OBJECT, _OCTETS]:
                    raise Refused("an extension of the certificate is malformed")
                yield parts[0][1], parts[1][1]


def _der(pem: str) -> bytes:
    match = _PEM.fullmatch(pem)
    if match is None:
        raise Refused("there is no certificate")
    return base64.b64decode("".join(match[1].split()), validate=True)


def _log_number(pem: str) -> str:
    """The identifier of a log: the SHA-256 of its key."""
    inner = "".join(line for line in pem.splitlines() if not line.startswith("-"))
    return hashlib.sha256(base64.b64decode(inner)).hexdigest()


def _is_certified(roots: str, der: bytes, chain: str, time: int) -> bool:
    """Whether the authority's certificates verify this one, at that time."""
    with Memory() as memory:
        words = ["verify", "-no-CApath", "-no-CAstore", "-CAfile", memory.file(roots.encode())]
        words += ["-untrusted", memory.file(chain.encode())] if chain else []
        words += ["-attime", str(time), "-purpose", "any", memory.file(_pem(der))]
        return memory.run(words, check=False).status == 0


def _key_of(der: bytes) -> str:
    with Memory() as memory:
        return memory.run(["x509", "-in", memory.file(_pem(der)), "-noout", "-pubkey"], check=False).output.decode(
            errors="replace"
        )


def _pem(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"
