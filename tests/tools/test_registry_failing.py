"""Registries that fail for a while, or for good: what is tried again, how often, and what is said in the end."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.unit.image.examples import CONFIG, LAYERS

from dayfly.errors import DayflyError, NotFound
from dayfly.image.library import Library
from dayfly.image.manifest import MANIFEST_TYPE
from dayfly.image.reference import Name, parse
from dayfly.imagebuild import registry, skopeo
from dayfly.imagebuild.skopeo import Access

LIMIT = 1 << 30
CUT = 0
"""In the place of a status: half of what was promised comes, and then the connection ends."""


@dataclass
class Failing:
    """A registry with one image, which answers the requests for a path by these statuses first, and ``always`` by this one."""

    library: Library
    digest: str
    first: dict[str, list[int]] = field(default_factory=dict)
    always: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    port: int = 0

    def planned(self, path: str) -> int:
        """How a request is answered: 200, another status, or CUT."""
        self.asked.append(path)
        for part, status in self.always.items():
            if part in path:
                return status
        return next((statuses.pop(0) for part, statuses in self.first.items() if part in path and statuses), 200)

    def times(self, part: str) -> int:
        """How often was asked for such a path."""
        return sum(part in path for path in self.asked)


@pytest.fixture
def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Failing]:
    monkeypatch.setattr(skopeo, "PAUSES", (0.1,) * len(skopeo.PAUSES))
    library = Library(tmp_path / "there")
    digest = library.add(CONFIG, LAYERS, Name("debian", "12"))
    state = Failing(library, digest)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, *, body: bool) -> None:
            content = self._content()
            status = state.planned(self.path) if content is not None else 404
            cut = status == CUT
            sent = content if content is not None and status in (200, CUT) else b"{}"
            self.send_response(200 if cut else status)
            self.send_header("Content-Type", MANIFEST_TYPE if "/manifests/" in self.path else "application/octet-stream")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            if body:
                self.wfile.write(sent[: len(sent) // 2] if cut else sent)
            if cut:
                self.close_connection = True

        def _content(self) -> bytes | None:
            if self.path == "/v2/":
                return b"{}"
            found = re.fullmatch(r"/v2/site/debian/(?:manifests|blobs)/(12|sha256:[0-9a-f]{64})", self.path)
            if not found:
                return None
            path = state.library.layout.blob(state.digest if found[1] == "12" else found[1])
            return path.read_bytes() if path.exists() else None

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.port = server.server_port
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()


def pull(failing: Failing, here: Path) -> str:
    remote = registry.Remote(registry.parse(f"docker://127.0.0.1:{failing.port}/site/debian:12"), Access(insecure=True))
    return registry.pull(remote, Name("debian", "12"), Library(here), LIMIT, lambda _: None)


@pytest.mark.parametrize("status", [500, 502, 503, 504, CUT])
@pytest.mark.parametrize("part", ["/manifests/", "/blobs/"])
def test_what_fails_once_is_asked_again(failing: Failing, tmp_path: Path, part: str, status: int) -> None:
    failing.first = {part: [status]}
    assert pull(failing, tmp_path / "here") == failing.digest
    with Library(tmp_path / "here").open(parse("debian:12")) as image:
        assert image.digest == failing.digest
    assert failing.first == {part: []}


def test_what_came_is_not_fetched_again(failing: Failing, tmp_path: Path) -> None:
    _, manifest, _ = failing.library.inspect(parse("debian:12"))
    last = max(manifest.layers, key=lambda layer: layer.size).digest
    failing.first = {last: [500, 500]}
    assert pull(failing, tmp_path / "here") == failing.digest
    assert [failing.times(layer.digest) for layer in manifest.layers] == [
        3 if layer.digest == last else 1 for layer in manifest.layers
    ]


@pytest.mark.parametrize("status", [500, CUT])
def test_what_always_fails_is_given_up_and_goes_on_later(failing: Failing, tmp_path: Path, status: int) -> None:
    _, manifest, _ = failing.library.inspect(parse("debian:12"))
    last = max(manifest.layers, key=lambda layer: layer.size).digest
    failing.always = {last: status}
    with pytest.raises(DayflyError) as raised:
        pull(failing, tmp_path / "here")
    assert "skopeo cannot fetch from 127.0.0.1" in raised.value.message
    assert f"tried {len(skopeo.PAUSES) + 1} times" in raised.value.message
    assert raised.value.hint == "run the same command again; it resumes"
    assert failing.times(last) < 40
    kept = {path.name for path in (tmp_path / "here/.dayfly").rglob("*") if path.is_file() and path.stat().st_size}
    assert kept >= {layer.digest.removeprefix("sha256:") for layer in manifest.layers if layer.digest != last}
    assert not [name for name in kept if "put-blob" in name], "parts of what failed would count as if more was sent than was said"
    failing.always = {}
    before = list(failing.asked)
    assert pull(failing, tmp_path / "here") == failing.digest
    again = failing.asked[len(before) :]
    assert not [layer for layer in manifest.layers if layer.digest != last and any(layer.digest in path for path in again)]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_an_answer_is_an_answer(failing: Failing, tmp_path: Path, status: int) -> None:
    failing.always = {"/manifests/": status}
    with pytest.raises((DayflyError, NotFound)) as raised:
        pull(failing, tmp_path / "here")
    assert "tried" not in raised.value.message
    assert "goes on" not in raised.value.hint
    assert failing.times("/manifests/") == 1
