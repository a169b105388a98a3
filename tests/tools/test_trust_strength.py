"""How strong the signatures of lists and images have to be, with keys and certificates that openssl makes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.framework.authority import Authority, Endorser
from tests.framework.image_lists import World
from tests.tools.test_cosign import digest_of, key_pair, library, payload
from tests.tools.test_keyless import EXTENSIONS, Notary, believe, verified

from dayfly import settings
from dayfly.cli import main
from dayfly.image.library import Library
from dayfly.image.reference import parse

__all__ = ["library"]


@dataclass(frozen=True)
class Case:
    """Somebody's list: by whose certificate, by which digest, which certificates go along; and what is too weak about it."""

    made: Callable[[Path], tuple[Authority, Endorser]]
    told: str = ""
    digest: str = "sha256"


def plain(
    key: str = "P-256", digest: str = "sha256", authority: str = "P-256", *, pss: bool = False
) -> Callable[[Path], tuple[Authority, Endorser]]:
    def made(folder: Path) -> tuple[Authority, Endorser]:
        root = Authority(folder / "root", "Root", key=authority)
        return root, root.endorser("Ada", key=key, digest=digest, pss=pss)

    return made


def between(
    key: str = "P-256", digest: str = "sha256", root_digest: str = "sha256"
) -> Callable[[Path], tuple[Authority, Endorser]]:
    """An authority between the endorser and the root."""

    def made(folder: Path) -> tuple[Authority, Endorser]:
        root = Authority(folder / "root", "Root", digest=root_digest)
        return root, Authority(folder / "between", "Between", key=key, digest=digest, by=root).endorser("Ada")

    return made


SIGNER, BETWEEN, ROOT = (
    f"the certificate of {who} "
    for who in ("the signer /C=CH/O=Test/CN=Ada", "the authority /C=CH/O=Test/CN=Between", "the authority /C=CH/O=Test/CN=Root")
)
SHA, RSA, CURVE = (f": at least {least} required" for least in ("SHA-256 is", "2048 are", "P-256 is"))
WEAK = {
    "a list by MD5": Case(plain("2048"), f"the list is signed with the digest MD5{SHA}", "md5"),
    "a list by SHA-1": Case(plain(), f"the list is signed with the digest SHA-1{SHA}", "sha1"),
    "a list by SHA-224": Case(plain(), f"the list is signed with the digest SHA-224{SHA}", "sha224"),
    "RSA of 512 bits": Case(plain("512"), f"{SIGNER}has an RSA key of 512 bits{RSA}"),
    "RSA of 2047 bits": Case(plain("2047"), f"{SIGNER}has an RSA key of 2047 bits{RSA}"),
    "P-192": Case(plain("P-192"), f"{SIGNER}has a key on the curve prime192v1, of 192 bits{CURVE}"),
    "P-224": Case(plain("P-224"), f"{SIGNER}has a key on the curve secp224r1, of 224 bits{CURVE}"),
    "a signer by MD5": Case(plain(authority="2048", digest="md5"), f"{SIGNER}is signed by md5WithRSAEncryption{SHA}"),
    "a signer by SHA-1": Case(plain(digest="sha1"), f"{SIGNER}is signed by ecdsa-with-SHA1{SHA}"),
    "a signer by SHA-224": Case(plain(digest="sha224"), f"{SIGNER}is signed by ecdsa-with-SHA224{SHA}"),
    "PSS, SHA-1": Case(plain(authority="2048", digest="sha1", pss=True), f"{SIGNER}is signed by rsassaPss with sha1{SHA}"),
    "an authority between by SHA-1": Case(between(digest="sha1"), f"{BETWEEN}is signed by ecdsa-with-SHA1{SHA}"),
    "an authority between of RSA 1024": Case(between("1024"), f"{BETWEEN}has an RSA key of 1024 bits{RSA}"),
    "a root of RSA 1024": Case(plain(authority="1024"), f"{ROOT}has an RSA key of 1024 bits{RSA}"),
    "a root on P-224": Case(plain(authority="P-224"), f"{ROOT}has a key on the curve secp224r1, of 224 bits{CURVE}"),
}  # fmt: skip
STRONG = {
    "RSA of 2048 bits": Case(plain("2048")),
    "RSA-PSS with SHA-256": Case(plain(authority="2048", pss=True)),
    "P-384 and SHA-512": Case(plain("P-384", "sha512"), digest="sha512"),
    "an authority between": Case(between()),
    "a root that signed itself by SHA-1": Case(between(root_digest="sha1")),  # it is trusted for itself
}


def offer(world: World, case: Case, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Publish a list as the case has it: the words that subscribe to it."""
    root, ada = case.made(world.folder)
    monkeypatch.setattr(world, "ada", ada)
    also = ["-certfile", world.folder / "between/ca.pem"] if (world.folder / "between").exists() else []
    world.offer(ada.sign(world.list(world.image("one:1", 1)), "-text", "-md", case.digest, *also))
    return ["--ca", str(root.certificate), "--endorser", ada.name]


@pytest.mark.parametrize("how", WEAK)
def test_a_list_with_a_weak_signature_is_not_believed(
    world: World, how: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case = WEAK[how]
    assert world.subscribe(*offer(world, case, monkeypatch)) == 125
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"dayfly: site: its signature is too weak: {case.told} (ask its endorser to sign it again")
    assert not (world.library.layout.trust / "state.json").exists()


@pytest.mark.parametrize("how", STRONG)
def test_a_list_with_a_strong_signature_is_believed(world: World, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert world.subscribe(*offer(world, STRONG[how], monkeypatch)) == 0
    assert world.run("one:1").startswith("sha256:")


def test_all_that_is_weak_is_told_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert world.subscribe(*offer(world, Case(plain("1024", "sha1", "P-224"), digest="sha1"), monkeypatch)) == 125
    error = capsys.readouterr().err.splitlines()[-1]
    for told in ("digest SHA-1", "signed by ecdsa-with-SHA1", "RSA key of 1024 bits", "the curve secp224r1"):
        assert told in error


def test_a_site_can_believe_an_old_list_and_every_use_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site = world.folder / "site.toml"
    site.write_text("[trust]\nweak_lists = true\n")
    monkeypatch.setattr(settings, "SITE_FILE", site)
    monkeypatch.setattr(settings.load, "__kwdefaults__", {"user": "", "owners": {site.stat().st_uid}, "required": False})
    case = WEAK["a list by SHA-1"]
    says = f"the list 'site' is accepted by trust.weak_lists of the settings, although {case.told}"
    assert world.subscribe(*offer(world, case, monkeypatch)) == 0
    assert f"dayfly: site: {says}\n" in capsys.readouterr().err
    assert main(["trust", "update"]) == 0
    assert f"dayfly: site: {says}\n" in capsys.readouterr().err
    assert main(["trust", "list"]) == 0
    assert "in force, with a weak signature" in capsys.readouterr().out
    assert main(["trust", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["lists"][0]["weak"] == [case.told]
    with Library(world.library.layout.folder, weak_lists=True).open(parse("one:1")) as image:
        assert image.notice == says  # which a job tells
    world.authority.certificate.touch()
    (world.folder / "root/ca.pem").touch()  # then the signature is judged again
    with Library(world.library.layout.folder, weak_lists=True).open(parse("one:1")) as image:
        assert image.notice == says
    site.write_text("")
    assert f"its signature is too weak: {case.told}" in world.run("one:1")
    assert main(["trust", "update"]) == 125


@pytest.mark.parametrize("how", ["the signer", "the authority", "the root"])
def test_a_weak_certificate_of_an_identity_does_not_vouch_for_an_image(
    library: Library, tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Authority(tmp_path / "root", "Root", key="1024" if how == "the root" else "2048")
    middle = Authority(tmp_path / "between", "Between", by=root, digest="sha1" if how == "the authority" else "sha256")
    who = middle.endorser("alice", purpose="codeSigning", more=EXTENSIONS, digest="sha1" if how == "the signer" else "sha256")
    notary = Notary(tmp_path, who, key_pair(tmp_path, "log"))
    if how == "the root":
        assert believe(notary, root) == 125
        assert f"has an RSA key of 1024 bits{RSA}" in capsys.readouterr().err
        return
    assert believe(notary, root) == 0
    signature = notary.sign(payload(digest_of(library)))
    notes = {**signature.annotations, "dev.sigstore.cosign/chain": middle.certificate.read_text()}
    assert not verified(library, type(signature)(signature.content, notes))
    told = "is signed by sha1WithRSAEncryption" if how == "the authority" else "is signed by ecdsa-with-SHA1"
    assert f"the signature of {digest_of(library)} is too weak: the certificate of {how} " in (error := capsys.readouterr().err)
    assert f"{told}{SHA}" in error
