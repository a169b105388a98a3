"""Signed lists of images by openssl itself, and by `dayfly trust publish`: what is trusted, what is refused, and what stops."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from tests.framework.authority import Authority, Endorser, openssl
from tests.framework.image_lists import World
from tests.unit.image.examples import CONFIG, LAYERS

from dayfly.cli import main
from dayfly.image import archive
from dayfly.image.library import Source
from dayfly.image.manifest import Role
from dayfly.image.origin import Origin
from dayfly.image.reference import Name, parse
from dayfly.image.trust.provenance import Stopped
from dayfly.units import format_time


def test_a_list_that_openssl_signed_is_believed(followed: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trust", "update"]) == 0
    assert capsys.readouterr().out.startswith("site: version 1.2 of /C=CH/O=Test/CN=Ada, until ")
    with followed.library.open(parse("one:1")) as image:
        assert image.provenance.endorsers == (followed.ada.name,)
        assert image.provenance.origins == ("list:the-list",)
    assert followed.library.verify().bad == ()
    assert main(["trust", "list", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)["lists"]
    assert (listed["name"], listed["identifier"], listed["problem"]) == ("site", "the-list", "")
    assert {image["title"]: image["names"] for image in listed["images"]} == {"one:1": ["one:1"], "two:1": ["two:1"]}
    assert main(["trust", "list"]) == 0
    assert "in force" in capsys.readouterr().out


def test_what_publish_signs_is_believed_and_openssl_thinks_so_too(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.library.add(CONFIG, LAYERS, Name("debian", "12"))
    ours = world.library.open(parse("debian:12"))
    ours.close()
    out = world.place.parent
    words = ["--out", out, "--uri", f"file://{out}", "--identifier", "l", "--cert", world.ada.certificate, "--key", world.ada.key]
    assert main(["trust", "publish", "debian:12", *map(str, words)]) == 0
    shutil.copy(out / "images.smime", world.place)
    command = ("cms", "-verify", "-in", world.place, "-text", "-purpose", "smimesign", "-CAfile", world.authority.certificate)
    assert json.loads(openssl(*command))["hv:imagelist"]["hv:images"][0]["hv:image"]["dc:title"] == "debian:12"
    shutil.rmtree(world.library.layout.folder)
    capsys.readouterr()
    assert world.subscribe() == 0
    assert world.run("debian:12") == ours.digest


def test_publishing_twice_gives_the_same_files(world: World) -> None:
    first, second = (
        archive.pack(world.source, parse("one:1"), world.folder / name) for name in ("a", "b") if world.image("one:1", 1)
    )
    assert first == second


def test_publish_needs_a_key_that_fits(world: World, endorsers: dict[str, Endorser], capsys: pytest.CaptureFixture[str]) -> None:
    world.library.add(CONFIG, LAYERS, Name("debian", "12"))
    out = world.folder / "out"
    words = ["--out", out, "--uri", "https://x.example/l", "--identifier", "l", "--cert", world.ada.certificate]
    assert main(["trust", "publish", "debian:12", *map(str, words), "--key", str(endorsers["bob"].key)]) == 125
    assert "belong together" in capsys.readouterr().err
    assert not out.exists()
    assert main(["trust", "publish", "debian:12", *map(str, words), "--key", str(world.ada.key), "--expires", "100d"]) == 125
    assert "the certificate is valid only until" in capsys.readouterr().err
    for wrong in (("--version", "new"), ("--identifier", "a b"), ("--identifier", ""), ("--uri", "http://x/y"), ("--uri", "a")):
        assert main(["trust", "publish", "debian:12", *map(str, words), "--key", str(world.ada.key), *wrong]) == 125
        assert capsys.readouterr().err.startswith("dayfly: ")
    assert main(["trust", "publish", "debian:12", "debian:12", *map(str, words), "--key", str(world.ada.key)]) == 125
    assert not out.exists()


Spoil = Callable[[World, dict[str, Endorser]], bytes]


def nested(depth: int) -> bytes:
    return b'{"hv:imagelist":' + b"[" * depth + b"]" * depth + b"}"


def two_signers(world: World, endorsers: dict[str, Endorser]) -> bytes:
    bob = endorsers["bob"]
    return world.ada.sign(world.list(hv__version="2"), "-text", "-signer", bob.certificate, "-inkey", bob.key)


NOW = int(time.time())


def dates(**seconds: int) -> dict[str, str]:
    """When a list was made, and until when it holds."""
    return {f"dc__date__{name}": format_time(moment) for name, moment in seconds.items()}


REFUSED: dict[str, tuple[Spoil, str]] = {
    "tampered": (lambda w, e: w.ada.sign(w.list(hv__version="2")).replace(b'"2"', b'"3"'), "signature is not valid"),
    "tampered signature": (
        lambda w, e: w.ada.sign(w.list(hv__version="2"))[:-200] + b"A" * 150 + b"\n",
        "signature is not valid",
    ),
    "truncated": (lambda w, e: w.ada.sign(w.list(hv__version="2"))[:-400], "signature is not valid"),
    "cut to its head": (lambda w, e: w.ada.sign(w.list(hv__version="2"))[:100], "no multipart boundary"),
    "empty": (lambda w, e: b"", "not an S/MIME"),
    "expired": (
        lambda w, e: w.ada.sign(w.list(hv__version="2", **dates(created=NOW - 100, expires=NOW - 1))),
        "the list expired on",
    ),
    "future": (
        lambda w, e: w.ada.sign(w.list(hv__version="2", dc__date__created=format_time(NOW + 3600))),
        "date is in the future",
    ),
    "expires before its creation date": (
        lambda w, e: w.ada.sign(w.list(hv__version="2", dc__date__expires=format_time(NOW - 86400))),
        "before its creation date",
    ),
    "not a date": (lambda w, e: w.ada.sign(w.list(hv__version="2", dc__date__expires="2026-13-40T00:00:00Z")), "not a date"),
    "rolled back": (lambda w, e: w.ada.sign(w.list(hv__version="1.1")), "older than the accepted version 1.2"),
    "rolled back, by number": (lambda w, e: w.ada.sign(w.list(hv__version="1")), "older than the accepted version 1.2"),
    "the same version": (lambda w, e: w.ada.sign(w.list(hv__version="1.2.0")), "differs from the accepted list"),
    "no version": (lambda w, e: w.ada.sign(w.list(hv__version="new")), "hv:version"),
    "unknown CA": (lambda w, e: e["stranger"].sign(w.list(hv__version="2")), "unable to get local issuer"),
    "another signer": (
        lambda w, e: e["bob"].sign(w.list(hv__version="2", x509={"hv:dn": e["bob"].name})),
        "signed by /C=CH/O=Test/CN=Bob",
    ),
    "another signer than it says": (lambda w, e: e["bob"].sign(w.list(hv__version="2")), "signed it"),
    "another issuer than it says": (lambda w, e: w.ada.sign(w.list(hv__version="2", x509={"hv:ca": "/CN=x"})), "signed it"),
    "two signers": (two_signers, "2 signers"),
    "an expired certificate": (lambda w, e: e["expired"].sign(w.list(hv__version="2")), "certificate has expired"),
    "a certificate for something else": (lambda w, e: e["server"].sign(w.list(hv__version="2")), "purpose"),
    "another identifier": (lambda w, e: w.ada.sign(w.list(hv__version="2", dc__identifier="other")), "it is the list other"),
    "oversized": (lambda w, e: w.ada.sign(w.list(hv__version="2", dc__description="x" * 17 * 1024**2)), "larger than"),
    "oversized content": (lambda w, e: w.ada.sign(w.list(hv__version="2", dc__description="x" * 9 * 1024**2)), "larger than"),
    "plain JSON": (lambda w, e: w.list(hv__version="2"), "not an S/MIME"),
    "opaque": (lambda w, e: w.ada.sign(w.list(hv__version="2"), "-nodetach"), "not an S/MIME"),
    "DER": (lambda w, e: w.ada.sign(w.list(hv__version="2"), "-outform", "DER"), "not an S/MIME"),
    "deep": (lambda w, e: w.ada.sign(nested(100_000)), "not JSON"),
    "no JSON": (lambda w, e: w.ada.sign(b"{hello"), "not JSON"),
    "no list": (lambda w, e: w.ada.sign(b'{"hv:imagelist": 3}'), "not a JSON object"),
    "too many images": (lambda w, e: w.ada.sign(w.list(hv__version="2", hv__images=[{}] * 2001)), "at most 2000"),
    "an image twice": (
        lambda w, e: w.ada.sign(w.list(w.image("one:1", 5), w.image("one:1", 6), hv__version="2")),
        "two images with the same identifier",
    ),
}


@pytest.mark.parametrize("how", REFUSED)
def test_what_is_not_to_be_believed_changes_nothing(
    followed: World, endorsers: dict[str, Endorser], how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, told = REFUSED[how]
    followed.offer(spoil(followed, endorsers))
    before, digest = followed.everything(), followed.run("one:1")
    assert main(["trust", "update"]) == 125
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("dayfly: site: ")
    assert told in error
    assert followed.everything() == before
    assert followed.run("one:1") == digest
    assert digest.startswith("sha256:")


@pytest.mark.parametrize("how", [how for how in REFUSED if not how.startswith(("rolled", "the same", "another identifier"))])
def test_what_is_not_to_be_believed_is_not_subscribed_to(
    world: World, endorsers: dict[str, Endorser], how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, told = REFUSED[how]
    world.offer(spoil(world, endorsers))
    assert world.subscribe() == 125
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("dayfly: site: ")
    assert told in error
    assert not (world.library.layout.trust / "state.json").exists()
    assert not list(world.library.layout.trust.glob("*.smime"))
    assert main(["trust", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"lists": [], "keys": [], "identities": []}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (b"debian:12", b"debian:13", "signature is not valid"),
        (b"hv:version", b"hv:versiox", "signature is not valid"),
        (b"multipart/signed", b"multipart/mixed", "not an S/MIME"),
        (b"\n\n------", b"\n", "signature is not valid"),
    ],
)
def test_what_publish_signed_and_somebody_changed_is_refused(
    world: World, old: bytes, new: bytes, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    world.library.add(CONFIG, LAYERS, Name("debian", "12"))
    out = world.place.parent
    words = ["--out", out, "--uri", f"file://{out}", "--identifier", "l", "--cert", world.ada.certificate, "--key", world.ada.key]
    assert main(["trust", "publish", "debian:12", *map(str, words)]) == 0
    message = (out / "images.smime").read_bytes()
    assert old in message
    world.offer(message.replace(old, new))
    assert world.subscribe() == 125
    assert told in capsys.readouterr().err


def test_what_a_killed_update_left_goes_with_the_next(followed: World) -> None:
    left = followed.library.layout.work / "0123456789abcdef"
    left.mkdir()
    (left / "half").write_bytes(b"x")
    assert main(["trust", "update"]) == 0
    assert not left.exists()


def test_who_is_believed_has_to_be_said(
    world: World, authorities: tuple[Authority, Authority], capsys: pytest.CaptureFixture[str]
) -> None:
    world.offer(world.ada.sign(world.list()))
    assert world.subscribe("--endorser", "/C=CH/O=Test/CN=Eve") == 125
    assert "trusted: /C=CH/O=Test/CN=Eve" in capsys.readouterr().err
    assert world.subscribe("--issuer", "/C=CH/O=Test/CN=Other") == 125
    assert world.subscribe("--identifier", "other") == 125
    assert world.subscribe("--ca", authorities[1].certificate) == 125
    assert world.subscribe("--ca", world.folder / "nothing") == 125
    assert world.subscribe("--ca", world.folder) == 125
    assert "openssl rehash" in capsys.readouterr().err
    assert world.subscribe("--name", "../up") == 125
    assert world.subscribe() == 0
    assert world.subscribe() == 125
    assert "there is already a subscription site" in capsys.readouterr().err


def test_a_second_authority_cannot_issue_the_same_name(
    world: World, authorities: tuple[Authority, Authority], endorsers: dict[str, Endorser], capsys: pytest.CaptureFixture[str]
) -> None:
    """The endorser's name and its issuer are believed together."""
    both = world.folder / "both.pem"
    both.write_bytes(b"".join(authority.certificate.read_bytes() for authority in authorities))
    world.offer(world.ada.sign(world.list()))
    assert world.subscribe("--ca", both) == 0
    other = {"hv:ca": endorsers["stranger"].issuer}
    world.offer(endorsers["stranger"].sign(world.list(hv__version="3", x509=other)))
    assert main(["trust", "update", "site"]) == 125
    assert "the signer's certificate is from /C=CH/O=Test/CN=Second CA" in capsys.readouterr().err


def test_folders_of_authorities_and_revocation_lists(
    world: World, endorsers: dict[str, Endorser], capsys: pytest.CaptureFixture[str]
) -> None:
    """As the IGTF distributes them: by the hash of their names. The revocation lists may be in another one."""
    trusted, revoked = world.folder / "certificates", world.folder / "crls"
    for folder, file in ((trusted, world.authority.certificate), (revoked, world.authority.crl)):
        folder.mkdir()
        shutil.copy(file, folder / "one.pem")
        subprocess.run(["openssl", "rehash", folder], check=True, capture_output=True)
    world.offer(world.ada.sign(world.list()))
    assert world.subscribe("--ca", trusted, "--crl", revoked) == 0
    assert world.subscribe("--ca", trusted, "--crl", trusted, "--name", "without-crl") == 125
    assert "unable to get certificate CRL" in capsys.readouterr().err


@pytest.fixture
def revoking(world: World, tmp_path: Path) -> tuple[World, Authority, Endorser]:
    """A world with an authority of its own, whose library follows a list and looks at revocations."""
    authority = Authority(tmp_path / "authority", "Own CA")
    world.authority, world.ada = authority, authority.endorser("Eve")
    world.offer(world.ada.sign(world.list(world.image("one:1", 1))))
    assert world.subscribe("--crl", authority.crl) == 0
    return world, authority, world.ada


def test_an_endorser_who_is_revoked_is_believed_no_more_at_once(
    revoking: tuple[World, Authority, Endorser], capsys: pytest.CaptureFixture[str]
) -> None:
    world, authority, eve = revoking
    assert world.run("one:1").startswith("sha256:")
    authority.endorser("Somebody")
    authority.publish_crl()
    assert world.run("one:1").startswith("sha256:"), "a new revocation list that is about somebody else"
    authority.revoke(eve)
    assert world.run("one:1") == (
        "one:1 may not be run: the list 'site' is not trusted any more: its signature is not valid: certificate revoked"
    )
    before = world.everything()
    world.offer(eve.sign(world.list(hv__version="9")))
    assert main(["trust", "update"]) == 125
    assert "certificate revoked" in capsys.readouterr().err
    assert world.everything() == before
    assert main(["trust", "list"]) == 0
    assert "certificate revoked" in capsys.readouterr().out


def test_an_authority_that_is_gone_is_believed_no_more(revoking: tuple[World, Authority, Endorser]) -> None:
    world, authority, _ = revoking
    authority.certificate.rename(world.folder / "away.pem")
    assert "is not trusted any more" in world.run("one:1")
    (world.folder / "away.pem").rename(authority.certificate)
    assert world.run("one:1").startswith("sha256:")


def test_a_list_that_expires_stops_its_images(
    followed: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    later = time.time() + 86400
    monkeypatch.setattr("dayfly.image.trust.judging.time.time", lambda: later)
    assert followed.run("one:1").startswith("one:1 may not be run: the list 'site' expired on ")
    with pytest.raises(Stopped):
        followed.library.open(parse("two:1"))
    assert main(["run", "one:1", "--", "true"]) == 125
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("dayfly: one:1 may not be run: the list 'site' expired on ")
    assert main(["template", "build", "one:1"]) == 125
    capsys.readouterr()
    assert main(["policy", "check", "--image", "one:1"]) == 1
    assert capsys.readouterr().out.startswith("denied: one:1 may not be run: the list 'site' expired on ")
    assert main(["image", "list"]) == 0
    assert "cannot be run: one:1 may not be run" in capsys.readouterr().out
    monkeypatch.undo()


def test_a_job_without_lists_and_policy_imports_nothing_of_them() -> None:
    """What is imported before QEMU delays every job."""
    code = "import dayfly.cli.run, dayfly.job.start, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "dayfly.policy.permission" in loaded
    lists = {f"dayfly.image.trust.{name}" for name in ("judging", "state", "smime", "imagelist", "subscriptions")}
    assert not {"dayfly.policy.rules_file", "tomllib", "hashlib", "ssl", *lists} & set(loaded)


def test_an_image_may_expire_before_its_list(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    soon = world.image("one:1", 1) | {"dc:date:expires": format_time(int(time.time()) + 100)}
    world.offer(world.ada.sign(world.list(soon)))
    assert world.subscribe() == 0
    assert world.run("one:1").startswith("sha256:")
    later = time.time() + 101
    monkeypatch.setattr("dayfly.image.trust.judging.time.time", lambda: later)
    assert "it expired on" in world.run("one:1")


def test_a_list_that_is_removed_stops_its_images(followed: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trust", "remove", "site"]) == 0
    assert "its 2 images can no longer be run" in capsys.readouterr().out
    assert followed.run("one:1").startswith("one:1 may not be run: the list 'site' was removed on ")
    assert main(["trust", "remove", "site"]) == 125
    assert main(["trust", "update", "site"]) == 125
    assert followed.subscribe() == 0
    assert followed.run("one:1").startswith("sha256:")


def test_a_newer_list_drops_and_replaces_images(followed: World, capsys: pytest.CaptureFixture[str]) -> None:
    digest = followed.run("one:1")
    old, new = followed.image("one:1", 1), followed.image("one:1", 7)
    followed.offer(followed.ada.sign(followed.list(new, followed.image("three:1", 3), hv__version="1.10")))
    assert main(["trust", "update"]) == 0
    assert followed.run("one:1") != digest
    assert followed.run("three:1").startswith("sha256:")
    why = "it is not on the list 'site' any more, since version 1.10"
    assert followed.run("two:1") == f"two:1 may not be run: {why}"
    assert why in followed.run(digest)
    (signed,) = followed.library.layout.trust.glob("*.smime")
    assert hashlib.sha256(signed.read_bytes()).hexdigest() == signed.stem
    followed.offer(followed.ada.sign(followed.list(new, followed.image("two:1", 2), hv__version="1.11")))
    capsys.readouterr()
    assert main(["trust", "update"]) == 0
    assert "fetching file:///" in capsys.readouterr().err
    assert followed.run("two:1").startswith("sha256:")
    followed.offer(followed.ada.sign(followed.list(old, hv__version="1.12")))
    assert main(["trust", "update"]) == 0
    assert followed.run("one:1") == digest, "the image of before has its name again"


def test_what_the_library_has_is_not_fetched_again(followed: World, capsys: pytest.CaptureFixture[str]) -> None:
    images = [followed.image("one:1", 1), followed.image("two:1", 2)]
    for path in followed.place.parent.glob("*.tar"):
        path.unlink()
    followed.offer(followed.ada.sign(followed.list(*images, hv__version="3")))
    assert main(["trust", "update"]) == 0
    assert "0 new images" in capsys.readouterr().out


def test_the_same_list_signed_again_is_no_other_list(followed: World) -> None:
    now = int(time.time())
    content = followed.list(hv__version="4", dc__date__created=format_time(now - 5), dc__date__expires=format_time(now + 500))
    for _ in range(2):
        followed.offer(followed.ada.sign(content))
        assert main(["trust", "update"]) == 0


def test_an_image_that_was_here_before_is_nobodys_to_stop(world: World) -> None:
    image = world.image("one:1", 1)
    shutil.copytree(world.source.layout.folder, world.library.layout.folder)
    world.offer(world.ada.sign(world.list(image)))
    assert world.subscribe() == 0
    with world.library.open(parse("one:1")) as opened:
        assert opened.provenance.origins == ("local", "list:the-list")
        assert opened.provenance.endorsers == (world.ada.name,)
    assert main(["trust", "remove", "site"]) == 0
    with world.library.open(parse("one:1")) as opened:
        assert (opened.provenance.origins, opened.provenance.endorsers) == (("local",), ())


def test_an_image_can_come_from_a_registry_and_by_a_list(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    listed = world.image("one:1", 1)
    source = Origin("docker://registry.example.org/one:1", f"sha256:{'0' * 64}", "2026-01-02T03:04:05Z")
    layers = {**LAYERS, Role.ROOT: Source("erofs", b"root 1" * 1000)}
    world.library.add(CONFIG, layers, Name("one", "1"), source.annotations())
    world.offer(world.ada.sign(world.list(listed)))
    assert world.subscribe() == 0
    with world.library.open(parse("one:1")) as opened:
        assert opened.provenance.origins == (source.source, "list:the-list")
    capsys.readouterr()
    assert main(["image", "show", "one:1", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    by_list = {"source": "list:the-list", "digest": "", "time": ""}
    assert (shown["origins"], shown["endorsers"]) == ([asdict(source), by_list], [world.ada.name])
    assert main(["trust", "remove", "site"]) == 0
    with world.library.open(parse("one:1")) as opened:
        assert opened.provenance.origins == (source.source,)


def test_a_list_takes_nobodys_name(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    ours = world.library.add(CONFIG, LAYERS, Name("one", "1"))
    world.offer(world.ada.sign(world.list(world.image("one:1", 9))))
    assert world.subscribe() == 0
    assert "one:1 is already another image here" in capsys.readouterr().err
    assert world.run("one:1") == ours


def test_a_list_takes_no_name_from_an_image_that_was_here_before(world: World) -> None:
    ours = world.image("one:1", 1)
    shutil.copytree(world.source.layout.folder, world.library.layout.folder)
    digest = world.run("one:1")
    world.offer(world.ada.sign(world.list(ours)))
    assert world.subscribe() == 0
    world.offer(world.ada.sign(world.list(world.image("one:1", 2), hv__version="2")))
    assert main(["trust", "update"]) == 0
    assert world.run("one:1") == digest


def test_an_image_of_two_lists_is_run_as_long_as_one_holds(followed: World) -> None:
    other = followed.place.with_name("other.smime")
    other.write_bytes(followed.ada.sign(followed.list(followed.image("one:1", 1), dc__identifier="other")))
    trusted = ["--ca", str(followed.authority.certificate), "--endorser", followed.ada.name]
    assert main(["trust", "subscribe", str(other), *trusted]) == 0
    assert main(["trust", "remove", "site"]) == 0
    with followed.library.open(parse("one:1")) as image:
        assert image.provenance.origins == ("list:other",)
    assert main(["trust", "remove", "other"]) == 0
    assert "'site' was removed" in followed.run("one:1")
    assert "'other' was removed" in followed.run("one:1")
