"""Containers from registries: a real one, with and without TLS and passwords, and others that mean harm."""

from __future__ import annotations

import hashlib
import http.server
import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.build.conftest import Imports, Registry, command_lines, credentials, run
from tests.framework.containers import OCI, Layout, config, digest, file, layout, packed, tar
from tests.framework.site import eventually

from dayfly.image.reference import parse

LAYERS = [tar(file("a", b"1" * 5000)), tar(file("b", b"2"))]
RUN = {"Cmd": ["/a"]}


def pushed(tmp_path: Path, address: str, *options: object, source: str = "", all_platforms: bool = False) -> None:
    """Push a container to a registry, as site/app:1."""
    if not source:
        layout(tmp_path / "pushed", *LAYERS, run=RUN)
        source = f"oci:{tmp_path}/pushed:latest"
    every = ["--all"] if all_platforms else []
    run("skopeo", "--insecure-policy", "copy", "--quiet", *every, *options, source, f"docker://{address}/site/app:1")


def test_from_a_registry_without_tls(imports: Imports, registry: Callable[..., Registry], tmp_path: Path) -> None:
    address = registry().address
    pushed(tmp_path, address, "--dest-tls-verify=false")
    source = f"docker://{address}/site/app:1"
    first = imports.imported(source, "--insecure")
    assert imports.imported(f"oci:{tmp_path}/pushed") == first
    assert imports.library.inspect(parse("app:1"))[2].command == ("/a",)
    shown = json.loads(imports.run("show", "app:1", "--json").stdout)["origins"][0]
    raw = run("skopeo", "inspect", "--raw", "--tls-verify=false", source, text=False)
    wanted = f"sha256:{hashlib.sha256(raw).hexdigest()}"  # type: ignore[arg-type]
    assert (shown["source"], shown["digest"]) == (source, wanted)
    assert imports.imported(f"docker://{address}/site/app@{wanted}", "by:digest", "--insecure") == first
    assert imports.imported(f"docker://{address}/site/app:other@{wanted}", "by:both", "--insecure") == first


def test_a_docker_manifest(imports: Imports, registry: Callable[..., Registry], tmp_path: Path) -> None:
    address = registry().address
    pushed(tmp_path, address, "--dest-tls-verify=false", "--format", "v2s2")
    assert imports.imported(f"docker://{address}/site/app:1", "--insecure") == imports.imported(f"oci:{tmp_path}/pushed")


def test_what_a_registry_has_not(imports: Imports, registry: Callable[..., Registry], tmp_path: Path) -> None:
    address = registry().address
    pushed(tmp_path, address, "--dest-tls-verify=false")
    for name in ("site/none:1", "site/app:none", f"site/app@sha256:{'0' * 64}"):
        said = imports.refused(f"docker://{address}/{name}", "--insecure")
        assert "check the name and the tag" in said, said
    assert "--insecure" in imports.refused(f"docker://{address}/site/app:1")
    assert "connection refused" in imports.refused("docker://127.0.0.1:9/site/app:1", "--insecure")


def test_several_platforms(imports: Imports, registry: Callable[..., Registry], tmp_path: Path) -> None:
    address = registry().address
    made = Layout(tmp_path / "lay")
    made.add(LAYERS, run=RUN)
    made.add([tar(file("arm64"))], whole_config=config([tar(file("arm64"))], architecture="arm64"))
    listed = [{key: value for key, value in one.items() if key != "annotations"} for one in made.listed]
    for one, name in zip(listed, ("amd64", "arm64"), strict=True):
        one["platform"] = {"os": "linux", "architecture": name}
    made.listed = []
    made.add_index(listed[::-1], "several")
    made.add_index([listed[1], {**listed[1], "platform": {"os": "linux", "architecture": "s390x"}}], "none")
    pushed(tmp_path, address, "--dest-tls-verify=false", source=f"oci:{tmp_path}/lay:several", all_platforms=True)
    digest = imports.imported(f"docker://{address}/site/app:1", "--insecure")
    assert imports.imported(f"oci:{tmp_path}/lay:several") == digest
    pushed(tmp_path, address, "--dest-tls-verify=false", source=f"oci:{tmp_path}/lay:none", all_platforms=True)
    said = imports.refused(f"docker://{address}/site/app:1", "--insecure")
    assert "has nothing for linux/amd64 (it has linux/arm64, linux/s390x)" in said


def test_with_tls_and_a_password(imports: Imports, secure: tuple[str, Path], tmp_path: Path) -> None:
    address, ca = secure
    pushed(tmp_path, address, "--dest-tls-verify=false", "--dest-creds=ada:secret")
    source = f"docker://{address}/site/app:1"
    assert "--ca" in imports.refused(source)
    assert "log in with `skopeo login 127.0.0.1:" in imports.refused(source, "--ca", ca)
    wrong = credentials(tmp_path / "wrong.json", address, "ada:guess")
    assert "log in" in imports.refused(source, "--ca", ca, "--auth-file", wrong)
    first = imports.imported(source, "--ca", ca, "--auth-file", credentials(tmp_path / "auth.json", address))
    credentials(imports.folder / ".docker/config.json", address)  # as docker login leaves them in the home directory
    assert imports.imported(source, "--ca", ca) == first
    (imports.folder / ".docker/config.json").unlink()
    environment = {**imports.environment(), "REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}
    assert imports.run("import", source, "--insecure", env=environment).stdout.strip() == first
    assert b"secret" not in (imports.library.layout.index).read_bytes()


def test_errors_with_files_are_said(imports: Imports) -> None:
    for option in ("--ca", "--auth-file"):
        assert "there is no file /none" in imports.refused("docker://127.0.0.1:9/a", option, "/none")


Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


@pytest.fixture
def hostile() -> Iterator[Callable[[dict[str, Answer | bytes]], str]]:
    """Starts a server that answers paths as a test says: with bytes, or by a function."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def start(answers: dict[str, Answer | bytes]) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = answers.get(self.path, b"{}" if self.path == "/v2/" else b"")
                try:
                    answer(self) if callable(answer) else send(self, answer)
                except OSError:
                    return

            do_HEAD = do_GET  # noqa: N815 (the name that http.server looks for)

            def log_message(self, *_: Any) -> None:
                return

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def send(handler: http.server.BaseHTTPRequestHandler, content: bytes, media_type: str = f"{OCI}.manifest.v1+json") -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", media_type)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def endless(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(bytes(1 << 20))


def silent(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    time.sleep(30)


def to_a_file(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", "file:///etc/passwd")
    handler.end_headers()


LAYER = packed(LAYERS[0])
CONFIG = config(LAYERS[:1])


def served(layer: Answer | bytes, **changes: Any) -> dict[str, Answer | bytes]:
    """What a registry answers that has one container, x:1, whose layer is this."""
    described = {"mediaType": f"{OCI}.layer.v1.tar+gzip", "digest": digest(LAYER), "size": len(LAYER), **changes}
    about = {"mediaType": f"{OCI}.config.v1+json", "digest": digest(CONFIG), "size": len(CONFIG)}
    whole = {"schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json", "config": about, "layers": [described]}
    manifest = json.dumps(whole).encode()
    paths: dict[str, Answer | bytes] = {f"/v2/x/manifests/{name}": manifest for name in ("1", digest(manifest))}
    return {**paths, f"/v2/x/blobs/{digest(CONFIG)}": CONFIG, f"/v2/x/blobs/{described['digest']}": layer}


def test_the_hostile_server_can_be_a_good_one(imports: Imports, hostile: Callable[..., str]) -> None:
    imports.imported(f"docker://{hostile(served(LAYER))}/x:1", "--insecure")


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        (served(endless), "sent more than"),
        (served(LAYER + b"more"), "skopeo cannot fetch"),
        (served(LAYER[:-5] + b"wrong"), "skopeo cannot fetch"),
        (served(LAYER, size=len(LAYER) - 7), f"{len(LAYER)} bytes instead of {len(LAYER) - 7}"),
        (served(LAYER, size=1 << 39), "512 GiB, more than the limit of 16 GiB"),
        (served(LAYER, urls=["file:///etc/passwd"]), "only an address"),
        (served(to_a_file), "unsupported protocol scheme"),
        (served(LAYER, mediaType="application/x-tar"), "not a container image's layer"),
        ({"/v2/x/manifests/1": to_a_file}, "unsupported protocol scheme"),
        ({"/v2/x/manifests/1": endless}, "cannot fetch"),
        ({"/v2/x/manifests/1": b"[]"}, "not a JSON object"),
        ({"/v2/x/manifests/1": b"{" * 100}, "not JSON"),
        ({"/v2/x/manifests/1": b""}, "not JSON"),
    ],
)
def test_registries_that_lie(imports: Imports, hostile: Callable[..., str], answers: dict[str, Any], why: str) -> None:
    said = imports.refused(f"docker://{hostile(answers)}/x:1", "--insecure")
    assert why in said


@pytest.mark.parametrize("answers", [served(silent), {"/v2/x/manifests/1": silent}])
def test_a_registry_that_says_nothing_is_given_up(imports: Imports, hostile: Callable[..., str], answers: dict[str, Any]) -> None:
    begun = time.monotonic()
    said = imports.refused(f"docker://{hostile(answers)}/x:1", "--insecure", "--timeout", "2s")
    assert "sent nothing for 2.00 s (try again later, or wait longer with --timeout)" in said
    assert time.monotonic() - begun < 20


def test_credentials_are_not_shown_to_another_registry(imports: Imports, hostile: Callable[..., str], tmp_path: Path) -> None:
    """A registry that sends us elsewhere for a layer does not make us carry the password there."""
    heard: list[str | None] = []
    told: list[str | None] = []

    def listen(handler: http.server.BaseHTTPRequestHandler) -> None:
        heard.append(handler.headers.get("Authorization"))
        send(handler, LAYER)

    other = hostile({"/layer": listen})

    def challenge(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(401)
        handler.send_header("WWW-Authenticate", 'Basic realm="test"')
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    def elsewhere(handler: http.server.BaseHTTPRequestHandler) -> None:
        told.append(handler.headers.get("Authorization"))
        handler.send_response(302)
        handler.send_header("Location", f"http://localhost:{other.partition(':')[2]}/layer")
        handler.end_headers()

    address = hostile({**served(elsewhere), "/v2/": challenge})
    imports.imported(f"docker://{address}/x:1", "--insecure", "--auth-file", credentials(tmp_path / "auth.json", address))
    assert (told, heard) == (["Basic YWRhOnNlY3JldA=="], [None])


def test_a_registry_that_wants_a_token(imports: Imports, hostile: Callable[..., str], tmp_path: Path) -> None:
    """As the registries of the large sites do: the password gets a token, and the token gets the container."""
    asked: list[str | None] = []
    answers: dict[str, Answer | bytes] = {}

    def token(handler: http.server.BaseHTTPRequestHandler) -> None:
        asked.append(handler.headers.get("Authorization"))
        send(handler, json.dumps({"token": "word", "access_token": "word", "expires_in": 300}).encode(), "application/json")

    def guarded(answer: Answer | bytes) -> Answer:
        def reply(handler: http.server.BaseHTTPRequestHandler) -> None:
            if handler.headers.get("Authorization") != "Bearer word":
                handler.send_response(401)
                realm = f'Bearer realm="http://{address}/token",service="test",scope="repository:x:pull"'
                handler.send_header("WWW-Authenticate", realm)
                handler.send_header("Content-Length", "0")
                handler.end_headers()
            elif callable(answer):
                answer(handler)
            else:
                send(handler, answer)

        return reply

    address = hostile(answers)
    answers.update({path: guarded(answer) for path, answer in {**served(LAYER), "/v2/": b"{}"}.items()})
    scope = "scope=repository%3Ax%3Apull&service=test"
    answers.update({f"/token?{query}": token for query in (scope, f"account=ada&{scope}")})
    source = f"docker://{address}/x:1"
    first = imports.imported(source, "--insecure")
    assert imports.imported(source, "--insecure", "--auth-file", credentials(tmp_path / "auth.json", address)) == first
    assert {None, "Basic YWRhOnNlY3JldA=="} == set(asked)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_fetch_that_is_ended_leaves_nothing(imports: Imports, hostile: Callable[..., str], number: signal.Signals) -> None:
    command = imports.command("import", f"docker://{hostile(served(silent))}/x:1", "--insecure")
    with subprocess.Popen(command, env=imports.environment(), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        assert any("registry: fetching" in line for line in process.stderr)
        process.send_signal(number)
    assert process.returncode in (-number, 130)
    work = str(imports.library.layout.work).encode()
    eventually(lambda: not any(work in line for line in command_lines()))
    if number == signal.SIGKILL:
        assert json.loads(imports.run("gc", "--json").stdout)["folders"] == 1
    imports.nothing_left()
    assert [image.name for image in imports.library.images()] == ["base:1"]


def test_without_skopeo_it_is_said_what_to_install(imports: Imports, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("rm", "unshare", "newuidmap"):
        (programs / name).symlink_to(f"/usr/bin/{name}")
    environment = {**imports.environment(), "PATH": str(programs)}
    done = imports.run("import", "docker://127.0.0.1:9/x:1", env=environment)
    assert (done.returncode, done.stderr) == (125, "dayfly: skopeo is not installed (install the package skopeo)\n")
