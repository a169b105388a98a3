"""Signatures as cosign makes them, here made by openssl and carried by skopeo: which hold, and what the policy makes of them."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from tests.framework.authority import openssl
from tests.unit.image.examples import CONFIG, LAYERS

from dayfly.cli import main
from dayfly.image import blobs
from dayfly.image.layout import REF_NAME, changing
from dayfly.image.library import Library
from dayfly.image.manifest import CONFIG_TYPE, MANIFEST_TYPE, Descriptor
from dayfly.image.reference import Name, parse
from dayfly.image.search import Libraries
from dayfly.image.trust import cosign
from dayfly.image.trust.site import provenance_by_site
from dayfly.settings import Settings


def key_pair(folder: Path, name: str, *options: str) -> tuple[Path, Path]:
    options = options or ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    key, public = folder / f"{name}.key", folder / f"{name}.pub"
    openssl("genpkey", *options, "-out", key)
    openssl("pkey", "-in", key, "-pubout", "-out", public)
    return key, public


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    (tmp_path / "settings.toml").write_text(f'[library]\nuser = "{tmp_path}/library"\n')
    monkeypatch.setenv("DAYFLY_SETTINGS", str(tmp_path / "settings.toml"))
    library = Library(tmp_path / "library")
    library.add(CONFIG, LAYERS, Name("debian", "12"))
    return library


def digest_of(library: Library) -> str:
    return library.inspect(parse("debian:12"))[0]


def as_system(library: Library) -> Libraries:
    """Both libraries: a site's that believes what this one does, and this one."""
    folder = library.layout.folder
    return Libraries(Settings(library_system=folder, library_user=folder))


def attach(library: Library, *signed: tuple[bytes, bytes], media_type: str = cosign.PAYLOAD_TYPE) -> None:
    """An artifact with payloads and their signatures, byte for byte as cosign lays it out."""
    rootfs = {"type": "layers", "diff_ids": []}
    config = json.dumps({"architecture": "", "history": [{}], "os": "", "rootfs": rootfs, "config": {}}).encode()
    layers = []
    for payload, signature in signed:
        digest, size = blobs.store(library.layout, payload)
        annotations = {cosign.ANNOTATION: base64.b64encode(signature).decode()}
        layers.append({"mediaType": media_type, "size": size, "digest": digest, "annotations": annotations})
    digest, size = blobs.store(library.layout, config)
    described = {"mediaType": CONFIG_TYPE, "size": size, "digest": digest}
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": described, "layers": layers}
    stored = blobs.store(library.layout, json.dumps(manifest).encode())
    name = cosign.tag(digest_of(library))
    with changing(library.layout) as versions:
        versions.append(versions[-1].without_name(name).listing(Descriptor(MANIFEST_TYPE, *stored, {REF_NAME: name})))


def payload(digest: str, kind: str = "cosign container image signature") -> bytes:
    critical = {"identity": {"docker-reference": "registry.example/x"}, "image": {"docker-manifest-digest": digest}, "type": kind}
    return json.dumps({"critical": critical, "optional": None}, separators=(",", ":")).encode()


def signature(key: Path, content: bytes) -> bytes:
    return openssl("dgst", "-sha256", "-sign", key, stdin=content)


def test_a_signature_that_openssl_made_holds(library: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key, public = key_pair(tmp_path, "site")
    content = payload(digest_of(library))
    attach(library, (content, signature(key, content)))
    assert main(["trust", "add-key", "site", str(public)]) == 0
    assert main(["trust", "verify", "debian:12"]) == 0
    assert capsys.readouterr().out.endswith(": signed by key:site\n")
    with library.open(parse("debian:12")) as image:
        assert image.provenance.endorsers == ("key:site",)
        assert image.provenance.origins == ("local",)
    assert provenance_by_site(digest_of(library), as_system(library)).endorsers == ("key:site",)
    assert main(["trust", "list"]) == 0
    assert "key:site  user     -    " in capsys.readouterr().out
    assert main(["trust", "remove-key", "site"]) == 0
    assert provenance_by_site(digest_of(library), as_system(library)).endorsers == ()
    assert main(["trust", "remove-key", "site"]) == 125


def test_what_we_sign_openssl_believes_and_skopeo_carries(
    library: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    skopeo = shutil.which("skopeo")
    assert skopeo, "install the package skopeo"
    keys = [key_pair(tmp_path, name) for name in ("one", "two")]
    for key, _ in keys:
        assert main(["trust", "sign", "debian:12", "--key", str(key)]) == 0
    digest = digest_of(library)
    tag = cosign.tag(digest)
    target = tmp_path / "copy"
    for name in ("debian:12", tag):
        copy = [skopeo, "--insecure-policy", "copy", f"oci:{library.layout.folder}:{name}", f"oci:{target}:{name}"]
        subprocess.run(copy, check=True, capture_output=True)
    shutil.rmtree(library.layout.folder)
    shutil.move(target, library.layout.folder)
    for name, (_, public) in zip(("one", "two"), keys, strict=True):
        assert main(["trust", "add-key", name, str(public)]) == 0
    capsys.readouterr()
    assert main(["trust", "verify", "debian:12", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"digest": digest, "library": "user", "signed_by": ["key:one", "key:two"]}
    with library.open(parse("debian:12")) as image:
        assert image.provenance.endorsers == ("key:one", "key:two")
    entry = library.index().find(tag)
    assert entry is not None
    manifest = json.loads(library.layout.blob(entry.descriptor.digest).read_bytes())
    assert len(manifest["layers"]) == 2
    made = manifest["layers"][0]
    (tmp_path / "signature").write_bytes(base64.b64decode(made["annotations"][cosign.ANNOTATION]))
    openssl("dgst", "-sha256", "-verify", keys[0][1], "-signature", tmp_path / "signature", library.layout.blob(made["digest"]))
    assert [image.name for image in library.images()] == ["debian:12"]
    library.collect(unnamed=True)
    assert main(["trust", "verify", "debian:12"]) == 0


def test_signatures_that_do_not_hold(library: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key, public = key_pair(tmp_path, "site")
    other, _ = key_pair(tmp_path, "other")
    digest = digest_of(library)
    good, foreign = payload(digest), payload("sha256:" + "0" * 64)
    assert main(["trust", "add-key", "site", str(public)]) == 0
    assert main(["trust", "verify", "debian:12"]) == 125
    assert "has no signature" in capsys.readouterr().err
    attempts = [
        ((good, signature(other, good)), "no trusted key has signed"),
        ((foreign, signature(key, foreign)), "no trusted key has signed"),
        ((good + b" ", signature(key, good)), "no trusted key has signed"),
        ((good, b""), "no trusted key has signed"),
        ((good, b"\x30\x80" * 1000), "no trusted key has signed"),
        ((payload(digest, "other"), signature(key, payload(digest, "other"))), "not in cosign's format"),
        ((b"[" * 60000, b""), "not JSON"),
        ((b"x" * 70000, b""), "more than the limit of 65536"),
    ]
    for attempt, told in attempts:
        attach(library, attempt)
        assert main(["trust", "verify", "debian:12"]) == 125
        assert told in capsys.readouterr().err
        with library.open(parse("debian:12")) as image:
            assert image.provenance.endorsers == ()
    attach(library, (good, signature(key, good)), media_type="application/x")
    assert main(["trust", "verify", "debian:12"]) == 125
    attach(library, attempts[0][0], (good, signature(key, good)))
    assert main(["trust", "verify", "debian:12"]) == 0


def test_keys_that_are_none(library: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key, public = key_pair(tmp_path, "site")
    _, rsa = key_pair(tmp_path, "rsa", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
    _, larger = key_pair(tmp_path, "larger", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384")
    (tmp_path / "text").write_text("prime256v1")
    for path in (rsa, larger, key, tmp_path / "text", tmp_path / "none", tmp_path):
        assert main(["trust", "add-key", "x", str(path)]) == 125
    assert main(["trust", "add-key", "../x", str(public)]) == 125
    capsys.readouterr()
    assert main(["trust", "add-key", "x", str(public)]) == 0
    assert main(["trust", "add-key", "x", str(public)]) == 0
    _, other = key_pair(tmp_path, "other")
    assert main(["trust", "add-key", "x", str(other)]) == 125
    assert "there is already a key x" in capsys.readouterr().err
    assert main(["trust", "sign", "debian:12", "--key", str(public)]) == 125


def test_signatures_that_come_at_once_are_all_kept(library: Library) -> None:
    digest = digest_of(library)
    new = [
        cosign.Signature(payload(digest), {cosign.ANNOTATION: base64.b64encode(bytes([number])).decode()}) for number in range(12)
    ]
    threads = [threading.Thread(target=cosign.attach, args=(library, digest, [one])) for one in new]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = cosign.signatures(library, digest)
    assert len(found) == 12
    assert all(one in found for one in new)
    assert library.verify().bad == ()
