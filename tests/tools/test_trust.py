"""Signed lists of images by openssl itself, and by `dayfly trust publish`: what is believed, what is refused, and what stops."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import json
import shutil
import signal
import ssl
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.framework.authority import Authority, Endorser, openssl
from tests.framework.site import eventually
from tests.unit.image.examples import CONFIG, LAYERS

from dayfly.cli import main
from dayfly.errors import DayflyError
from dayfly.image import archive
from dayfly.image.library import Library, Source
from dayfly.image.manifest import Role
from dayfly.image.origin import Origin
from dayfly.image.reference import Name, parse
from dayfly.image.trust import fetch
from dayfly.image.trust.imagelist import timestamp
from dayfly.image.trust.standing import Stopped


@dataclass
class World:
    """An endorser's folder of published files, and a library that follows."""

    folder: Path
    authority: Authority
    ada: Endorser
    library: Library
    source: Library
    images: dict[str, Path] = field(default_factory=dict)

    @property
    def place(self) -> Path:
        return self.folder / "published/site.smime"

    def image(self, name: str, number: int) -> dict[str, Any]:
        """An entry of a list, for an image of its own."""
        layers = {**LAYERS, Role.ROOT: Source("erofs", f"root {number}".encode() * 1000)}
        self.source.add(CONFIG, layers, Name(*name.split(":")))
        path = self.place.parent / f"{name.replace(':', '-')}-{number}.oci.tar"
        packed = archive.pack(self.source, parse(name), path)
        return self.entry(name, path) | {"sl:checksum:sha512": packed.checksums["sha512"]}

    def entry(self, name: str, path: Path) -> dict[str, Any]:
        return {
            "dc:identifier": f"id-{name.replace(':', '-')}",
            "dc:title": name,
            "hv:uri": f"file://{path}",
            "hv:size": path.stat().st_size,
            "hv:version": "1",
            "hv:format": "dayfly-oci",
            "sl:checksum:sha512": hashlib.sha512(path.read_bytes()).hexdigest(),
        }

    def list(self, *images: dict[str, Any], **changes: Any) -> bytes:
        now = int(time.time())
        x509 = {"hv:dn": self.ada.name, "hv:ca": self.ada.issuer, "hv:email": "", "dc:creator": "Ada"}
        fields = {
            "dc:identifier": "the-list",
            "dc:title": "Images for tests",
            "dc:date:created": timestamp(now - 60),
            "dc:date:expires": timestamp(now + 86400),
            "hv:version": "1.2",
            "hv:endorser": {"hv:x509": x509 | changes.pop("x509", {})},
            "hv:images": [{"hv:image": image} for image in images],
        }
        return json.dumps({"hv:imagelist": fields | {name.replace("__", ":"): value for name, value in changes.items()}}).encode()

    def offer(self, message: bytes) -> None:
        self.place.write_bytes(message)

    def subscribe(self, *words: object) -> int:
        trusted = () if "--ca" in words else ("--ca", self.authority.certificate)
        endorser = () if "--endorser" in words else ("--endorser", self.ada.name)
        return main(["trust", "subscribe", str(self.place), *map(str, (*trusted, *endorser, *words))])

    def run(self, name: str) -> str:
        """What a job does first: the image's digest, or why it is not run."""
        try:
            with self.library.open(parse(name)) as image:
                return image.digest
        except DayflyError as error:
            return error.message

    def everything(self) -> dict[str, bytes]:
        """All that the library has in files, but for its locks."""
        return {
            str(path.relative_to(self.library.layout.folder)): path.read_bytes()
            for path in self.library.layout.folder.rglob("*")
            if path.is_file() and path.name not in ("lock", ".lock", "adding")
        }


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> tuple[Authority, Authority]:
    folder = tmp_path_factory.mktemp("authorities")
    return Authority(folder / "one", "First CA"), Authority(folder / "two", "Second CA")


@pytest.fixture(scope="module")
def endorsers(authorities: tuple[Authority, Authority]) -> dict[str, Endorser]:
    one, two = authorities
    return {
        "ada": one.endorser("Ada"),
        "bob": one.endorser("Bob"),
        "expired": one.endorser("Expired", days=-1),
        "server": one.endorser("Server", purpose="serverAuth"),
        "stranger": two.endorser("Ada"),
    }


@pytest.fixture
def world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authorities: tuple[Authority, Authority], endorsers: dict[str, Endorser]
) -> World:
    (tmp_path / "published").mkdir()
    settings = tmp_path / "settings.toml"
    settings.write_text(f'[library]\nuser = "{tmp_path}/library"\n')
    monkeypatch.setenv("DAYFLY_SETTINGS", str(settings))
    return World(tmp_path, authorities[0], endorsers["ada"], Library(tmp_path / "library"), Library(tmp_path / "source"))


@pytest.fixture
def followed(world: World) -> World:
    """A world whose library follows a list with one:1 and two:1."""
    world.offer(world.ada.sign(world.list(world.image("one:1", 1), world.image("two:1", 2))))
    assert world.subscribe() == 0
    return world


def test_a_list_that_openssl_signed_is_believed(followed: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trust", "update"]) == 0
    assert capsys.readouterr().out.startswith("site: version 1.2 of /C=CH/O=Test/CN=Ada, until ")
    with followed.library.open(parse("one:1")) as image:
        assert image.standing.endorsers == (followed.ada.name,)
        assert image.standing.origins == ("list:the-list",)
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
    assert "the certificate is valid until" in capsys.readouterr().err
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
    return {f"dc__date__{name}": timestamp(moment) for name, moment in seconds.items()}


REFUSED: dict[str, tuple[Spoil, str]] = {
    "tampered": (lambda w, e: w.ada.sign(w.list(hv__version="2")).replace(b'"2"', b'"3"'), "signature does not hold"),
    "tampered signature": (
        lambda w, e: w.ada.sign(w.list(hv__version="2"))[:-200] + b"A" * 150 + b"\n",
        "signature does not hold",
    ),
    "truncated": (lambda w, e: w.ada.sign(w.list(hv__version="2"))[:-400], "signature does not hold"),
    "cut to its head": (lambda w, e: w.ada.sign(w.list(hv__version="2"))[:100], "no multipart boundary"),
    "empty": (lambda w, e: b"", "no S/MIME"),
    "expired": (
        lambda w, e: w.ada.sign(w.list(hv__version="2", **dates(created=NOW - 100, expires=NOW - 1))),
        "the list expired on",
    ),
    "future": (lambda w, e: w.ada.sign(w.list(hv__version="2", dc__date__created=timestamp(NOW + 3600))), "of the future"),
    "expires before it was made": (
        lambda w, e: w.ada.sign(w.list(hv__version="2", dc__date__expires=timestamp(NOW - 86400))),
        "before it was made",
    ),
    "no date": (lambda w, e: w.ada.sign(w.list(hv__version="2", dc__date__expires="2026-13-40T00:00:00Z")), "no date"),
    "rolled back": (lambda w, e: w.ada.sign(w.list(hv__version="1.1")), "older than 1.2"),
    "rolled back, by number": (lambda w, e: w.ada.sign(w.list(hv__version="1")), "older than 1.2"),
    "the same version": (lambda w, e: w.ada.sign(w.list(hv__version="1.2.0")), "another list than the one in force"),
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
    "plain JSON": (lambda w, e: w.list(hv__version="2"), "no S/MIME"),
    "opaque": (lambda w, e: w.ada.sign(w.list(hv__version="2"), "-nodetach"), "no S/MIME"),
    "DER": (lambda w, e: w.ada.sign(w.list(hv__version="2"), "-outform", "DER"), "no S/MIME"),
    "deep": (lambda w, e: w.ada.sign(nested(100_000)), "not JSON"),
    "no JSON": (lambda w, e: w.ada.sign(b"{hello"), "not JSON"),
    "no list": (lambda w, e: w.ada.sign(b'{"hv:imagelist": 3}'), "not a JSON object"),
    "too many images": (lambda w, e: w.ada.sign(w.list(hv__version="2", hv__images=[{}] * 2001)), "at most 2000"),
    "an image twice": (
        lambda w, e: w.ada.sign(w.list(w.image("one:1", 5), w.image("one:1", 6), hv__version="2")),
        "two images with one identifier",
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
        (b"debian:12", b"debian:13", "signature does not hold"),
        (b"hv:version", b"hv:versiox", "signature does not hold"),
        (b"multipart/signed", b"multipart/mixed", "no S/MIME"),
        (b"\n\n------", b"\n", "signature does not hold"),
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
    assert "believed are: /C=CH/O=Test/CN=Eve" in capsys.readouterr().err
    assert world.subscribe("--issuer", "/C=CH/O=Test/CN=Other") == 125
    assert world.subscribe("--identifier", "other") == 125
    assert world.subscribe("--ca", authorities[1].certificate) == 125
    assert world.subscribe("--ca", world.folder / "nothing") == 125
    assert world.subscribe("--ca", world.folder) == 125
    assert "openssl rehash" in capsys.readouterr().err
    assert world.subscribe("--name", "../up") == 125
    assert world.subscribe() == 0
    assert world.subscribe() == 125
    assert "there is a subscription site already" in capsys.readouterr().err


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
        "one:1 may not be run: the list 'site' is not believed any more: its signature does not hold: certificate revoked"
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
    assert "is not believed any more" in world.run("one:1")
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
    code = "import dayfly.cli.run, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "dayfly.job.permission" in loaded
    lists = {f"dayfly.image.trust.{name}" for name in ("judging", "state", "smime", "imagelist", "subscriptions")}
    assert not {"dayfly.job.rules", "tomllib", "hashlib", "ssl", *lists} & set(loaded)


def test_an_image_may_expire_before_its_list(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    soon = world.image("one:1", 1) | {"dc:date:expires": timestamp(int(time.time()) + 100)}
    world.offer(world.ada.sign(world.list(soon)))
    assert world.subscribe() == 0
    assert world.run("one:1").startswith("sha256:")
    later = time.time() + 101
    monkeypatch.setattr("dayfly.image.trust.judging.time.time", lambda: later)
    assert "lets it expire" in world.run("one:1")


def test_a_list_that_is_removed_stops_its_images(followed: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trust", "remove", "site"]) == 0
    assert "its 2 images are run no more" in capsys.readouterr().out
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
    content = followed.list(hv__version="4", dc__date__created=timestamp(now - 5), dc__date__expires=timestamp(now + 500))
    for _ in range(2):
        followed.offer(followed.ada.sign(content))
        assert main(["trust", "update"]) == 0


def test_an_image_that_was_here_before_is_nobodys_to_stop(world: World) -> None:
    image = world.image("one:1", 1)
    shutil.copytree(world.source.layout.folder, world.library.layout.folder)
    world.offer(world.ada.sign(world.list(image)))
    assert world.subscribe() == 0
    with world.library.open(parse("one:1")) as opened:
        assert opened.standing.origins == ("local", "list:the-list")
        assert opened.standing.endorsers == (world.ada.name,)
    assert main(["trust", "remove", "site"]) == 0
    with world.library.open(parse("one:1")) as opened:
        assert (opened.standing.origins, opened.standing.endorsers) == (("local",), ())


def test_an_image_can_come_from_a_registry_and_by_a_list(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    listed = world.image("one:1", 1)
    source = Origin("docker://registry.example.org/one:1", f"sha256:{'0' * 64}", "2026-01-02T03:04:05Z")
    layers = {**LAYERS, Role.ROOT: Source("erofs", b"root 1" * 1000)}
    world.library.add(CONFIG, layers, Name("one", "1"), source.annotations())
    world.offer(world.ada.sign(world.list(listed)))
    assert world.subscribe() == 0
    with world.library.open(parse("one:1")) as opened:
        assert opened.standing.origins == (source.source, "list:the-list")
    capsys.readouterr()
    assert main(["image", "show", "one:1", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    by_list = {"source": "list:the-list", "digest": "", "time": ""}
    assert (shown["origins"], shown["endorsers"]) == ([asdict(source), by_list], [world.ada.name])
    assert main(["trust", "remove", "site"]) == 0
    with world.library.open(parse("one:1")) as opened:
        assert opened.standing.origins == (source.source,)


def test_a_list_takes_nobodys_name(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    ours = world.library.add(CONFIG, LAYERS, Name("one", "1"))
    world.offer(world.ada.sign(world.list(world.image("one:1", 9))))
    assert world.subscribe() == 0
    assert "one:1 is another image here already" in capsys.readouterr().err
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
        assert image.standing.origins == ("list:other",)
    assert main(["trust", "remove", "other"]) == 0
    assert "'site' was removed" in followed.run("one:1")
    assert "'other' was removed" in followed.run("one:1")


def test_appdbs_lists_are_read_and_disks_passed_over(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    disk = {
        "ad:mpuri": "https://appdb.example/store/vo/image/x:1/",
        "ad:group": "General group",
        "dc:identifier": "8c1ab1c2-0000-4000-8000-000000000001",
        "dc:title": "Image for EGI Ubuntu 22.04 [Ubuntu/22.04/VirtualBox]",
        "dc:description": "a\nb",
        "hv:uri": "https://appdb.example/x.ova",
        "hv:format": "OVA",
        "hv:size": "612345678",
        "hv:ram_minimum": 2147483648,
        "hv:core_minimum": "1",
        "hv:version": "2026.01.01",
        "sl:checksum:sha256": " " + "AB" * 32,
        "sl:comments": "",
        "sl:osname": "Ubuntu",
    }
    ours = world.image("one:1", 1)
    ours |= {"hv:size": str(ours["hv:size"]), "sl:comments": "", "hv:format": "DAYFLY-OCI"}
    x509 = {"hv:dn": f" {world.ada.name}"}
    listed = world.list(
        disk, ours, x509=x509, ad__vo="fedcloud", dc__source="https://appdb.example/", hv__version=" 20260101.1 ".strip()
    )
    world.offer(world.ada.sign(listed, "-crlfeol"))  # without -text, as AppDB's
    assert world.subscribe() == 0, capsys.readouterr().err
    assert "is no image for Dayfly" in capsys.readouterr().err
    assert world.run("one:1").startswith("sha256:")


def tar(path: Path, *members: tuple[str, bytes], special: tarfile.TarInfo | None = None) -> None:
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive_:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive_.addfile(member, io.BytesIO(content))
        if special:
            archive_.addfile(special)


def members_of(path: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(path) as opened:
        found = [(member.name, opened.extractfile(member)) for member in opened.getmembers()]
        return [(name, file.read()) for name, file in found if file]


def link(name: str, target: str) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = tarfile.SYMTYPE, target
    return made


def blob_changed(members: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    return [(name, content.replace(b"root", b"toor") if name.startswith("blobs/") else content) for name, content in members]


ARCHIVES: dict[str, tuple[Callable[[Path, list[tuple[str, bytes]]], object], str]] = {
    "a blob was changed": (lambda path, members: tar(path, *blob_changed(members)), "other content than its name says"),
    "a path out of it": (lambda path, members: tar(path, *members, ("../../../etc/evil", b"x")), "has no place"),
    "an absolute path": (lambda path, members: tar(path, *members, ("/etc/evil", b"x")), "has no place"),
    "a link": (
        lambda path, members: tar(path, *members, special=link("blobs/sha256/" + "a" * 64, "/etc/passwd")),
        "has no place",
    ),
    "a member twice": (lambda path, members: tar(path, *members, members[-1]), "has no place"),
    "a blob is missing": (lambda path, members: tar(path, *members[:-1]), "the archive has no sha256:"),
    "no index": (lambda path, members: tar(path, *members[2:]), "no index.json"),
    "no archive": (lambda path, members: path.write_bytes(b"x" * 4096), "cannot be read"),
    "cut off": (lambda path, members: path.write_bytes(path.read_bytes()[:3000]), "ends too early"),
    "an empty index": (lambda path, members: tar(path, ("index.json", b'{"schemaVersion":2}'), members[0]), "0 images"),
    "a deep index": (lambda path, members: tar(path, ("index.json", b"[" * 100_000)), "not JSON"),
    "many members": (
        lambda path, members: tar(path, *((f"blobs/sha256/{number:064x}", b"") for number in range(1100))),
        "more than",
    ),
}


@pytest.mark.parametrize("how", ARCHIVES)
def test_an_archive_that_is_none_changes_nothing(followed: World, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    spoil, told = ARCHIVES[how]
    good, bad = followed.image("good:1", 11), followed.image("bad:1", 12)
    path = Path(bad["hv:uri"].removeprefix("file://"))
    spoil(path, members_of(path))
    followed.offer(followed.ada.sign(followed.list(good, followed.entry("bad:1", path), hv__version="2")))
    before = followed.everything()
    assert main(["trust", "update"]) == 125
    assert told in capsys.readouterr().err
    assert followed.everything() == before
    assert followed.run("one:1").startswith("sha256:")
    assert followed.run("good:1").startswith("there is no image")
    assert not [path for path in followed.library.layout.work.iterdir() if path.is_dir()]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sl:checksum:sha512": "0" * 128}, "its sha512 is another one"),
        ({"sl:checksum:sha256": "0" * 64}, "its sha256 is another one"),
        ({"sl:checksum:sha512": "xyz"}, "no sha512 checksum"),
        ({"sl:checksum:sha512": None}, "no checksum"),
        ({"hv:size": 10}, "larger than the 10 bytes"),
        ({"hv:size": 10**9}, "and on the list 1000000000"),
        ({"hv:size": 10**18}, "hv:size"),
        ({"hv:size": -1}, "hv:size"),
        ({"hv:uri": "file:///nowhere/at/all"}, "cannot be read"),
        ({"hv:uri": "file:///dev/zero"}, "not a regular file"),
        ({"hv:uri": "http://127.0.0.1/x"}, "no address"),
        ({"hv:uri": "ftp://127.0.0.1/x"}, "no address"),
    ],
)
def test_an_image_that_is_not_what_the_list_says(
    world: World, changes: dict[str, Any], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    world.offer(world.ada.sign(world.list(world.image("one:1", 1) | changes)))
    assert world.subscribe() == 125
    assert told in capsys.readouterr().err
    assert world.run("one:1").startswith("there is no image")


def test_a_full_disk_leaves_the_library_as_it_was(followed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The moment when the state has been written and the index not yet."""
    followed.offer(followed.ada.sign(followed.list(followed.image("new:1", 21), hv__version="2")))
    before = followed.everything()

    def full(*_: object) -> list[str]:
        raise OSError(28, "No space left on device", "index.json")

    monkeypatch.setattr(Library, "enter", full)
    assert main(["trust", "update"]) == 125
    monkeypatch.undo()
    assert followed.everything() == before
    assert main(["policy", "check"]) == 0


def test_a_state_that_cannot_be_read_stops_everything_of_the_library(followed: World) -> None:
    state = followed.library.layout.trust / "state.json"
    ours = followed.library.add(CONFIG, LAYERS, Name("ours", "1"))
    assert followed.run("ours:1") == ours
    for content in (b"{", b'{"version":2}', b'{"version":1,"lists":[]}'):
        state.write_bytes(content)
        assert followed.run("ours:1").startswith("nobody knows which images may be run")


def test_skopeo_reads_our_archives_and_makes_such(world: World) -> None:
    skopeo = shutil.which("skopeo")
    assert skopeo, "install the package skopeo"
    path = Path(world.image("one:1", 1)["hv:uri"].removeprefix("file://"))
    digest, _, _ = world.source.inspect(parse("one:1"))
    seen = subprocess.run([skopeo, "inspect", f"oci-archive:{path}"], check=True, capture_output=True)
    assert json.loads(seen.stdout)["Digest"] == digest
    again = world.folder / "again.tar"
    target = f"oci-archive:{again}:one:1"
    subprocess.run([skopeo, "--insecure-policy", "copy", f"oci-archive:{path}", target], check=True, capture_output=True)
    assert archive.examine(again, None).digest == digest


class Server:
    """A server with https, on this host alone."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        key, request, certificate = folder / "tls.key", folder / "tls.csr", folder / "tls.pem"
        openssl("req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, "-subj", "/CN=localhost")
        extensions = folder / "tls.ext"
        extensions.write_text("subjectAltName=DNS:localhost\n")
        signed_by = ("-CA", authority.certificate, "-CAkey", authority.key, "-set_serial", 77)
        openssl("x509", "-req", "-in", request, "-out", certificate, "-extfile", extensions, "-days", 9, *signed_by)
        self.answers: dict[str, Callable[[http.server.BaseHTTPRequestHandler], None]] = {}
        answers = self.answers

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with contextlib.suppress(BrokenPipeError, ConnectionError, ssl.SSLError):
                    answers[self.path](self) if self.path in answers else self.send_error(404)

            def log_message(self, *_: object) -> None:
                return

        self._server = http.server.ThreadingHTTPServer(("localhost", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.address = f"https://localhost:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def has(self, path: str, content: bytes) -> str:
        def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(content)))
            handler.end_headers()
            handler.wfile.write(content)

        self.answers[path] = answer
        return self.address + path

    def leads(self, path: str, target: str) -> str:
        def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
            handler.send_response(302)
            handler.send_header("Location", target)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        self.answers[path] = answer
        return self.address + path

    def trickles(self, path: str) -> str:
        def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.end_headers()
            for _ in range(1000):
                handler.wfile.write(b"x")
                time.sleep(0.05)

        self.answers[path] = answer
        return self.address + path


@pytest.fixture
def server(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("SSL_CERT_FILE", str(world.authority.certificate))
    for variable in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with Server(world.folder, world.authority) as server:
        yield server


def subscribe_to(world: World, place: str) -> int:
    words = ["--ca", str(world.authority.certificate), "--endorser", world.ada.name]
    return main(["trust", "subscribe", place, *words, "--name", "far"])


def test_lists_and_images_come_by_https(world: World, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    image = world.image("one:1", 1)
    content = Path(image["hv:uri"].removeprefix("file://")).read_bytes()
    image["hv:uri"] = server.has("/one.tar", content)
    server.has("/list", world.ada.sign(world.list(image)))
    assert subscribe_to(world, server.leads("/here", "/list")) == 0, capsys.readouterr().err
    assert world.run("one:1").startswith("sha256:")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_update_that_is_ended_in_the_middle_leaves_the_library_as_it_was(
    world: World, server: Server, number: signal.Signals
) -> None:
    image = world.image("one:1", 1)
    image["hv:uri"] = server.has("/one.tar", Path(image["hv:uri"].removeprefix("file://")).read_bytes())
    server.has("/list", world.ada.sign(world.list(image)))
    assert subscribe_to(world, f"{server.address}/list") == 0
    before, digest = world.everything(), world.run("one:1")
    slow = world.image("two:1", 2) | {"hv:uri": server.trickles("/slow")}
    server.has("/list", world.ada.sign(world.list(image, slow, hv__version="2")))
    work = world.library.layout.work
    with subprocess.Popen([sys.executable, "-m", "dayfly", "trust", "update"], stderr=subprocess.DEVNULL) as update:
        eventually(lambda: any(path.stat().st_size for path in work.glob("*/" + "?" * 64)), 20)
        update.send_signal(number)
        assert update.wait(20) != 0
    assert world.run("one:1") == digest
    after = {path: content for path, content in world.everything().items() if not path.startswith(".dayfly/work/")}
    assert after == before
    server.has("/list", world.ada.sign(world.list(image, hv__version="3")))
    assert main(["trust", "update"]) == 0
    assert not [path for path in work.iterdir() if path.is_dir()]


def test_what_servers_do_wrong_is_told(
    world: World, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    local = world.image("one:1", 1)
    attempts = {
        f"{server.address}/nothing": "the server says 404",
        server.leads("/plain", "http://localhost/list"): "which is not https",
        server.leads("/file", "file:///etc/passwd"): "is not allowed",
        server.leads("/round", "/round"): "cannot be fetched",
        server.has("/large", b"x" * (17 * 1024**2)): "larger than",
        server.has("/local", world.ada.sign(world.list(local))): "names images by https only",
        "https://localhost:1/x": "cannot be fetched",
        "http://localhost/x": "no address",
        "https://[": "no address",
    }
    for place, told in attempts.items():
        assert subscribe_to(world, place) == 125
        assert told in capsys.readouterr().err, place
    monkeypatch.setattr(fetch, "_PATIENCE", 3.0)
    assert subscribe_to(world, server.trickles("/slow")) == 125
    assert "too slowly" in capsys.readouterr().err
    monkeypatch.delenv("SSL_CERT_FILE")
    assert subscribe_to(world, f"{server.address}/large") == 125
    assert "CERTIFICATE_VERIFY_FAILED" in capsys.readouterr().err
    assert [path.name for path in world.library.layout.trust.iterdir()] == ["lock"]
