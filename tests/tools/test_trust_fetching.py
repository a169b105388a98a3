"""What lists name, fetched: archives that are none, servers that do wrong, updates that end in the middle."""

from __future__ import annotations

import contextlib
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
from pathlib import Path
from typing import Any

import pytest
from tests.framework.authority import Authority, openssl
from tests.framework.image_lists import World
from tests.framework.site import eventually
from tests.unit.image.examples import CONFIG, LAYERS

from dayfly.cli import main
from dayfly.image import archive
from dayfly.image.library import Library
from dayfly.image.reference import Name, parse
from dayfly.image.trust import fetch


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
    assert "is not an image for Dayfly" in capsys.readouterr().err
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
    "a blob was changed": (lambda path, members: tar(path, *blob_changed(members)), "does not match its digest"),
    "a path out of it": (lambda path, members: tar(path, *members, ("../../../etc/evil", b"x")), "does not belong"),
    "an absolute path": (lambda path, members: tar(path, *members, ("/etc/evil", b"x")), "does not belong"),
    "a link": (
        lambda path, members: tar(path, *members, special=link("blobs/sha256/" + "a" * 64, "/etc/passwd")),
        "does not belong",
    ),
    "a member twice": (lambda path, members: tar(path, *members, members[-1]), "does not belong"),
    "a blob is missing": (lambda path, members: tar(path, *members[:-1]), "the archive has no sha256:"),
    "no index": (lambda path, members: tar(path, *members[2:]), "no index.json"),
    "no archive": (lambda path, members: path.write_bytes(b"x" * 4096), "cannot be read"),
    "cut off": (lambda path, members: path.write_bytes(path.read_bytes()[:3000]), "truncated"),
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
        ({"sl:checksum:sha512": "0" * 128}, "its sha512 differs"),
        ({"sl:checksum:sha256": "0" * 64}, "its sha256 differs"),
        ({"sl:checksum:sha512": "xyz"}, "not a sha512 checksum"),
        ({"sl:checksum:sha512": None}, "no checksum"),
        ({"hv:size": 10}, "larger than the limit of 10 bytes"),
        ({"hv:size": 10**9}, "but 1000000000 on the list"),
        ({"hv:size": 10**18}, "hv:size"),
        ({"hv:size": -1}, "hv:size"),
        ({"hv:uri": "file:///nowhere/at/all"}, "cannot be read"),
        ({"hv:uri": "file:///dev/zero"}, "not a regular file"),
        ({"hv:uri": "http://127.0.0.1/x"}, "not an address"),
        ({"hv:uri": "ftp://127.0.0.1/x"}, "not an address"),
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
        assert followed.run("ours:1").startswith("it is not known which images may be run")


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
        f"{server.address}/nothing": "the server answered 404",
        server.leads("/plain", "http://localhost/list"): "which is not https",
        server.leads("/file", "file:///etc/passwd"): "is not allowed",
        server.leads("/round", "/round"): "cannot be fetched",
        server.has("/large", b"x" * (17 * 1024**2)): "larger than",
        server.has("/local", world.ada.sign(world.list(local))): "may only name images by https",
        "https://localhost:1/x": "cannot be fetched",
        "http://localhost/x": "not an address",
        "https://[": "not a valid address",
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
