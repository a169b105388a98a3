"""Signatures by certificates and a log, made by openssl as Fulcio and Rekor make them; and one entry that the real log made."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.framework.authority import Authority, Endorser, openssl
from tests.tools.test_cosign import as_system, digest_of, key_pair, library, payload

from dayfly.cli import main
from dayfly.errors import Refused
from dayfly.image.fields import encode
from dayfly.image.library import Library
from dayfly.image.reference import parse
from dayfly.image.trust import cosign, keyless
from dayfly.image.trust.openssl import holds
from dayfly.image.trust.site import provenance_by_site

__all__ = ["library"]

DATA = Path(__file__).parent / "data"
SUBJECT, ISSUER = "alice@example.org", "https://accounts.example.org"
EXTENSIONS = f"subjectAltName=critical,email:{SUBJECT}\n1.3.6.1.4.1.57264.1.8=ASN1:UTF8String:{ISSUER}"


def der_of(certificate: Path) -> bytes:
    return openssl("x509", "-in", certificate, "-outform", "DER")


@dataclass
class Notary:
    """What signs: a certificate's owner and a log. What is said of a signature can be other than it is."""

    folder: Path
    who: Endorser
    log: tuple[Path, Path]
    at: int = field(default_factory=lambda: int(time.time()) + 60)
    said: dict[str, object] = field(default_factory=dict)

    def sign(self, content: bytes) -> cosign.Signature:
        signature = openssl("dgst", "-sha256", "-sign", self.who.key, stdin=content)
        certificate = self.who.certificate.read_text()
        entry = self.entry(content, signature, certificate)
        said = {
            "body": base64.b64encode(encode(entry)).decode(),
            "integratedTime": self.at,
            "logID": self.number(),
            "logIndex": 7,
        }
        said |= {name: value for name, value in self.said.items() if name in said}
        stamp = base64.b64encode(openssl("dgst", "-sha256", "-sign", self.log[0], stdin=encode(said))).decode()
        notes = {
            cosign.ANNOTATION: base64.b64encode(signature).decode(),
            keyless.CERTIFICATE: certificate,
            keyless.BUNDLE: json.dumps({"SignedEntryTimestamp": stamp, "Payload": said}, indent=1),
        }
        return cosign.Signature(content, notes)

    def entry(self, content: bytes, signature: bytes, certificate: str) -> dict[str, object]:
        digest = {"algorithm": "sha256", "value": hashlib.sha256(self.said.get("content", content)).hexdigest()}  # type: ignore[arg-type]
        signed = {
            "content": base64.b64encode(self.said.get("signature", signature)).decode(),  # type: ignore[arg-type]
            "publicKey": {"content": base64.b64encode(str(self.said.get("certificate", certificate)).encode()).decode()},
        }
        kind = self.said.get("kind", "hashedrekord")
        return {"apiVersion": "0.0.1", "kind": kind, "spec": {"data": {"hash": digest}, "signature": signed}}

    def number(self) -> str:
        return hashlib.sha256(openssl("pkey", "-pubin", "-in", self.log[1], "-outform", "DER")).hexdigest()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority", "Fulcio of the tests")


@pytest.fixture
def notary(tmp_path: Path, authority: Authority) -> Notary:
    return Notary(tmp_path, authority.endorser("alice", purpose="codeSigning", more=EXTENSIONS), key_pair(tmp_path, "log"))


def believe(notary: Notary, authority: Authority, *, subject: str = SUBJECT, issuer: str = ISSUER, name: str = "alice") -> int:
    words = ["--subject", subject, "--issuer", issuer, "--roots", str(authority.certificate), "--log-key", str(notary.log[1])]
    return main(["trust", "add-identity", name, *words])


def verified(library: Library, *signatures: cosign.Signature) -> bool:
    cosign.attach(library, digest_of(library), signatures)
    return main(["trust", "verify", "debian:12"]) == 0


def test_a_signature_of_somebody_who_is_believed(
    library: Library, notary: Notary, authority: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert believe(notary, authority) == 0
    capsys.readouterr()
    assert verified(library, notary.sign(payload(digest_of(library))))
    assert capsys.readouterr().out.endswith(": signed by identity:alice\n")
    with library.open(parse("debian:12")) as image:
        assert image.provenance.endorsers == ("identity:alice",)
    assert provenance_by_site(digest_of(library), as_system(library)).endorsers == ("identity:alice",)
    capsys.readouterr()
    assert main(["trust", "list"]) == 0
    assert f"identity:alice  user     {SUBJECT} ({ISSUER})" in capsys.readouterr().out
    assert main(["trust", "list", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["identities"]
    assert (found["name"], found["subject"], found["signed"]) == ("alice", SUBJECT, [digest_of(library)])
    library.collect()
    assert library.verify().bad == ()
    assert main(["trust", "remove-key", "alice"]) == 0
    assert provenance_by_site(digest_of(library), as_system(library)).endorsers == ()


def test_the_older_forms_of_entry_and_issuer(library: Library, notary: Notary, authority: Authority) -> None:
    raw = ":".join(f"{byte:02x}" for byte in ISSUER.encode())
    more = f"subjectAltName=critical,URI:https://example.org/flow\n1.3.6.1.4.1.57264.1.1=DER:{raw}"
    notary.who = authority.endorser("flow", purpose="codeSigning", more=more)
    notary.said["kind"] = "rekord"
    believe(notary, authority, subject="https://example.org/flow")
    assert verified(library, notary.sign(payload(digest_of(library))))


@pytest.mark.parametrize(
    "said",
    [
        {"integratedTime": int(time.time()) - 20 * 86400},
        {"integratedTime": int(time.time()) + 100 * 86400},
        {"logID": "0" * 64},
        {"content": b"something else"},
        {"signature": b"another"},
        {"certificate": "none"},
        {"kind": "intoto"},
        {"body": "!"},
        {"logIndex": "7"},
    ],
    ids=lambda said: next(iter(said)),
)
def test_what_the_log_says_has_to_be_about_the_signature(
    library: Library, notary: Notary, authority: Authority, said: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    believe(notary, authority)
    notary.said = said
    assert not verified(library, notary.sign(payload(digest_of(library))))
    assert "no trusted key has signed" in capsys.readouterr().err


def test_another_log_authority_subject_or_issuer(library: Library, notary: Notary, authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other", "Fulcio of the tests")
    signature = notary.sign(payload(digest_of(library)))
    believe(notary, other, name="by-another-authority")
    believe(replace(notary, log=key_pair(tmp_path, "other")), authority, name="in-another-log")
    believe(notary, authority, subject="bob@example.org", name="bob")
    believe(notary, authority, issuer="https://accounts.example.net", name="by-another-provider")
    assert not verified(library, signature)
    believe(notary, authority)
    assert verified(library)


@pytest.mark.parametrize(
    ("purpose", "more"),
    [
        ("emailProtection", EXTENSIONS),
        ("codeSigning", EXTENSIONS.replace(f"email:{SUBJECT}", f"email:{SUBJECT},email:bob@example.org")),
        ("codeSigning", EXTENSIONS.replace(f"email:{SUBJECT}", f"DNS:{SUBJECT}")),
        ("codeSigning", f"subjectAltName=critical,email:{SUBJECT}"),
    ],
)
def test_certificates_that_do_not_do(library: Library, notary: Notary, authority: Authority, purpose: str, more: str) -> None:
    believe(notary, authority)
    notary.who = authority.endorser("somebody", purpose=purpose, more=more)
    assert not verified(library, notary.sign(payload(digest_of(library))))


def test_parts_of_other_signatures(library: Library, notary: Notary, authority: Authority) -> None:
    believe(notary, authority)
    good, other = notary.sign(payload(digest_of(library))), notary.sign(payload(f"sha256:{'1' * 64}"))
    assert not verified(library, other)
    assert not verified(library, cosign.Signature(good.content, other.annotations))
    for name in (keyless.CERTIFICATE, keyless.BUNDLE, cosign.ANNOTATION):
        assert not verified(library, cosign.Signature(good.content, {**good.annotations, name: ""}))
    another = authority.endorser("another", purpose="codeSigning", more=EXTENSIONS)
    assert not verified(
        library, cosign.Signature(good.content, {**good.annotations, keyless.CERTIFICATE: another.certificate.read_text()})
    )
    assert verified(library, good)


def test_what_cannot_be_believed(
    library: Library, notary: Notary, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["trust", "add-identity", "alice", "--subject", SUBJECT, "--issuer", ISSUER]
    assert main([*words, "--roots", str(notary.log[1]), "--log-key", str(notary.log[1])]) == 125
    assert "has no certificate in it" in capsys.readouterr().err
    assert main([*words, "--roots", str(authority.certificate), "--log-key", str(authority.certificate)]) == 125
    assert "not a public key of ECDSA over P-256" in capsys.readouterr().err
    assert believe(notary, authority) == 0
    assert believe(notary, authority, subject="bob@example.org") == 125
    assert "there is already a key alice" in capsys.readouterr().err
    assert main(["trust", "add-key", "alice", str(notary.log[1])]) == 125


def test_an_entry_that_the_real_log_made() -> None:
    key = (DATA / "rekor.pub").read_text()
    logged = keyless.parse_bundle((DATA / "rekor-bundle.json").read_text())
    assert holds(key, logged.signed, logged.signature)
    assert not holds(key, logged.signed.replace(b"5179", b"5178"), logged.signature)
    assert logged.log == hashlib.sha256(openssl("pkey", "-pubin", "-in", DATA / "rekor.pub", "-outform", "DER")).hexdigest()
    assert time.gmtime(logged.time)[:3] == (2021, 6, 22)
    pem = base64.b64decode(json.loads(logged.body)["spec"]["signature"]["publicKey"]["content"])
    subject, issuer = keyless.names(openssl("x509", "-outform", "DER", stdin=pem))
    assert subject.endswith("@google.com")
    assert issuer == ""


@pytest.mark.parametrize(
    "der", [b"", b"\x30\x00", b"\x30\x02\x30\x00", b"\x30\x84\xff\xff\xff\xff", b"\x30\x80", b"\x02\x01\x00"]
)
def test_what_is_no_certificate(der: bytes) -> None:
    with pytest.raises(Refused):
        keyless.names(der)


@given(st.data())
def test_a_damaged_certificate_is_refused_or_read(data: st.DataObject) -> None:
    entry = json.loads(keyless.parse_bundle((DATA / "rekor-bundle.json").read_text()).body)
    pem = base64.b64decode(entry["spec"]["signature"]["publicKey"]["content"])
    der = bytearray(base64.b64decode(b"".join(pem.splitlines()[1:-1])))
    for _ in range(data.draw(st.integers(1, 4))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    try:
        keyless.names(bytes(der[: data.draw(st.integers(0, len(der)))]))
    except (Refused, UnicodeDecodeError):
        return
