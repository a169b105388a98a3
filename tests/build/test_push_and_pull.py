"""Images to a real registry and back: bit for bit, only what is missing, and nothing of what is not what it should be."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import signal
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from tests.build.conftest import Imports, Registry, command_lines, credentials, run
from tests.framework.containers import file, layout, tar
from tests.framework.site import eventually
from tests.tools.test_cosign import key_pair
from tests.unit.image.examples import CONFIG, LAYERS

from dayfly.errors import Corrupt, NotFound
from dayfly.image.blobs import record
from dayfly.image.copying import copy
from dayfly.image.layout import changing
from dayfly.image.library import Library, Source
from dayfly.image.manifest import Role
from dayfly.image.reference import Name, parse
from dayfly.image.trust import cosign
from dayfly.image.work import resumable_folder

LARGE = os.urandom(3 * 1024**2)
IMAGE = {**LAYERS, Role.ROOT: Source("erofs", LARGE)}


@dataclass
class Between:
    """A server between skopeo and a registry that notes what is asked for, and can stop or change what a blob's answer is."""

    registry: str
    asked: list[str] = field(default_factory=list)
    stuck: str = ""
    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    changed: dict[str, bytes] = field(default_factory=dict)
    address: str = ""

    @property
    def blobs(self) -> set[str]:
        """The digests of the blobs that were fetched."""
        return {path.rpartition("/")[2] for path in self.asked if "/blobs/sha256:" in path}

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        self.asked.append(handler.path)
        digest = handler.path.rpartition("/")[2]
        wanted = {"Accept": handler.headers.get("Accept", "*/*")}
        request = urllib.request.Request(f"http://{self.registry}{handler.path}", headers=wanted)
        try:
            answered = urllib.request.urlopen(request)
        except urllib.error.HTTPError as error:
            handler.send_error(error.code)
            return
        with answered as answer:
            content = self.changed.get(digest, answer.read())
            handler.send_response(200)
            for name in ("Content-Type", "Docker-Content-Digest"):
                if name in answer.headers:
                    handler.send_header(name, answer.headers[name])
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        half = len(content) // 2 if digest == self.stuck else len(content)
        handler.wfile.write(content[:half])
        if digest == self.stuck:
            self.reached.set()
            self.released.wait(60)


@pytest.fixture
def between(registry: Callable[..., Registry]) -> Iterator[Between]:
    """A registry, and what is between."""
    middle = Between(registry().address)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                middle.answer(self)
            except OSError:
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    middle.address = f"127.0.0.1:{server.server_address[1]}"
    yield middle
    middle.released.set()
    server.shutdown()
    server.server_close()


@dataclass
class Pushed:
    """An image that was pushed from another library."""

    digest: str
    source: str
    blobs: dict[str, str]


@pytest.fixture
def pushed(imports: Imports, between: Between, tmp_path: Path) -> Pushed:
    """A large image in the registry, of which the library here has nothing but small parts."""
    elsewhere = Library(tmp_path / "elsewhere")
    digest = elsewhere.add(replace(CONFIG, size=999), IMAGE, Name("app", "1"))
    target = f"docker://{between.registry}/site/app:1"
    run(
        "skopeo",
        "--insecure-policy",
        "copy",
        "--preserve-digests",
        "--dest-tls-verify=false",
        f"oci:{tmp_path}/elsewhere:app:1",
        target,
    )
    _, manifest, _ = elsewhere.inspect(parse("app:1"))
    blobs = {str(layer.role): layer.digest for layer in manifest.layers} | {"config": manifest.config.digest}
    return Pushed(digest, f"docker://{between.address}/site/app:1", blobs)


def pull(imports: Imports, *words: object) -> str:
    done = imports.run("pull", *words, "--insecure")
    assert done.returncode == 0, done.stderr
    imports.nothing_left()
    assert not kept(imports)
    return done.stdout.strip()


def kept(imports: Imports) -> list[Path]:
    """What pulls have left for the next."""
    folder = imports.library.layout.pulls
    return sorted(folder.iterdir()) if folder.is_dir() else []


def refused(imports: Imports, *words: object) -> str:
    before = imports.library.images()
    done = imports.run(*words, "--insecure")
    lines = [line for line in done.stderr.splitlines() if not line.startswith("[")]
    assert (done.returncode, len(lines)) == (125, 1), done.stderr
    assert imports.library.images() == before
    imports.nothing_left()
    return lines[0]


def test_an_image_goes_to_a_registry_and_comes_back(imports: Imports, registry: Callable[..., Registry], tmp_path: Path) -> None:
    address = registry().address
    target = f"docker://{address}/site/mine:2"
    done = imports.run("push", "base:1", target, "--insecure")
    assert done.returncode == 0, done.stderr
    imports.nothing_left()
    digest = imports.library.resolve(parse("base:1")).descriptor.digest
    assert done.stdout.strip() == digest
    raw = run("skopeo", "inspect", "--raw", "--tls-verify=false", target, text=False)
    assert f"sha256:{hashlib.sha256(raw).hexdigest()}" == digest  # type: ignore[arg-type]
    run("skopeo", "--insecure-policy", "copy", "--preserve-digests", "--src-tls-verify=false", target, f"oci:{tmp_path}/back:a:1")
    assert Library(tmp_path / "back").open(parse("a:1")).digest == digest
    imports.library.remove(parse("base:1"))
    imports.library.collect(unnamed=True)
    assert pull(imports, target) == digest
    assert imports.library.verify(parse("mine:2")).bad == ()
    shown = json.loads(imports.run("show", "mine:2", "--json").stdout)["origins"][0]
    assert (shown["source"], shown["digest"]) == (target, digest)
    assert pull(imports, f"docker://{address}/site/mine@{digest}", "again:1") == digest
    assert set(imports.library.names(digest)) == {"mine:2", "again:1"}


def test_an_image_without_a_name_is_pushed_by_its_digest(imports: Imports, registry: Callable[..., Registry]) -> None:
    digest = imports.library.add(CONFIG, IMAGE, None)
    done = imports.run("push", digest[:25], f"docker://{registry().address}/a/b", "--insecure")
    assert done.stdout.strip() == digest, done.stderr


def test_only_what_is_missing_is_fetched(imports: Imports, between: Between, pushed: Pushed) -> None:
    assert pull(imports, pushed.source) == pushed.digest
    assert between.blobs == {pushed.blobs["root"], pushed.blobs["config"]}
    with imports.library.open(parse("app:1")) as image:
        assert image.digest == pushed.digest
    between.asked.clear()
    assert pull(imports, pushed.source, "app:2") == pushed.digest
    assert between.blobs == set()


def test_a_damaged_blob_of_the_library_is_fetched_again(imports: Imports, between: Between, pushed: Pushed) -> None:
    path = imports.library.layout.blob(pushed.blobs["kernel"])
    path.write_bytes(bytes(path.stat().st_size))
    assert pull(imports, pushed.source) == pushed.digest
    assert pushed.blobs["kernel"] in between.blobs
    assert imports.library.verify().bad == ()


def test_a_pull_that_is_killed_is_gone_on_with(imports: Imports, between: Between, pushed: Pushed) -> None:
    imports.library.remove(parse("base:1"))
    imports.library.collect()
    before = sorted(imports.library.layout.blobs.iterdir())
    between.stuck = pushed.blobs["root"]
    process = subprocess.Popen(
        imports.command("pull", pushed.source, "--insecure"), env=imports.environment(), stderr=subprocess.DEVNULL
    )
    assert between.reached.wait(60)
    whole = set(pushed.blobs.values()) - {pushed.blobs["root"], pushed.blobs["config"]}
    (folder,) = kept(imports)
    eventually(lambda: {f"sha256:{path.name}" for path in (folder / "blobs/sha256").iterdir()} == whole)
    process.send_signal(signal.SIGKILL)
    process.wait()
    eventually(lambda: not any(b"skopeo" in line and between.address.encode() in line for line in command_lines()))
    assert sorted(imports.library.layout.blobs.iterdir()) == before
    damaged = folder / "blobs/sha256" / pushed.blobs["kernel"].removeprefix("sha256:")
    damaged.write_bytes(bytes(damaged.stat().st_size))
    between.stuck = ""
    between.released.set()
    between.asked.clear()
    assert pull(imports, pushed.source) == pushed.digest
    assert between.blobs == {pushed.blobs["root"], pushed.blobs["config"], pushed.blobs["kernel"]}
    assert imports.library.verify().bad == ()


@pytest.mark.parametrize("size", [len(LARGE), len(LARGE) - 1, len(LARGE) + 1])
def test_a_blob_that_is_another_does_not_enter(imports: Imports, between: Between, pushed: Pushed, size: int) -> None:
    between.changed[pushed.blobs["root"]] = bytes(size)
    assert f"skopeo cannot fetch from {between.address}" in refused(imports, "pull", pushed.source)
    for folder in kept(imports):
        assert not (folder / "blobs/sha256" / pushed.blobs["root"].removeprefix("sha256:")).exists()
    assert imports.library.collect().folders == len(kept(imports)) + 1
    assert not kept(imports)
    between.changed.clear()
    assert pull(imports, pushed.source) == pushed.digest


def test_what_is_not_pulled(imports: Imports, between: Between, pushed: Pushed, tmp_path: Path) -> None:
    said = refused(imports, "pull", pushed.source, "--max-size", "1M")
    assert "more than the limit of 1 MiB (--max-size raises it)" in said
    assert "is not an address in a registry (write docker://HOST/NAME:TAG)" in refused(imports, "pull", "oci:/tmp/x:1")
    assert "check the name and the tag" in refused(imports, "pull", f"docker://{between.registry}/site/app:2")
    layout(tmp_path / "container", tar(file("a", b"1")))
    container = f"docker://{between.registry}/site/container:1"
    run("skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", f"oci:{tmp_path}/container:latest", container)
    assert "`dayfly image import`" in refused(imports, "pull", container)


def test_what_is_not_pushed(imports: Imports, registry: Callable[..., Registry]) -> None:
    address = registry().address
    digest = f"sha256:{'0' * 64}"
    assert "under a tag" in refused(imports, "push", "base:1", f"docker://{address}/a@{digest}")
    assert "there is no image none:1" in refused(imports, "push", "none:1", f"docker://{address}/a:1")
    path = imports.library.layout.blob(imports.library.inspect(parse("base:1"))[1].layers[0].digest)
    path.write_bytes(bytes(path.stat().st_size))
    assert "damaged" in refused(imports, "push", "base:1", f"docker://{address}/a:1")


def test_one_pull_of_an_image_at_a_time(imports: Imports, pushed: Pushed) -> None:
    with resumable_folder(imports.library.layout, pushed.digest.removeprefix("sha256:")):
        process = subprocess.Popen(imports.command("pull", pushed.source, "--insecure"), env=imports.environment())
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)
        assert imports.library.collect().folders == 0
    assert process.wait(60) == 0
    assert not kept(imports)


def copied(imports: Imports, *words: object) -> str:
    done = imports.run("copy", *words)
    assert done.returncode == 0, done.stderr
    imports.nothing_left()
    return done.stdout.strip()


def test_copies_from_registry_to_registry(
    imports: Imports, between: Between, pushed: Pushed, registry: Callable[..., Registry]
) -> None:
    target = f"docker://{registry().address}/other/app:9"
    before = imports.library.images()
    assert copied(imports, pushed.source, target, "--insecure") == pushed.digest
    assert imports.library.images() == before
    between.asked.clear()
    assert copied(imports, pushed.source, target, "--insecure") == pushed.digest
    assert pushed.blobs["root"] not in between.blobs  # the target has it
    assert pull(imports, target, "back:1") == pushed.digest
    assert imports.library.verify(parse("back:1")).bad == ()


def test_what_is_not_copied_between_registries(
    imports: Imports, between: Between, pushed: Pushed, registry: Callable[..., Registry]
) -> None:
    address = registry().address
    target = f"docker://{address}/other/app:9"
    assert "more than the limit of 1 MiB" in refused(imports, "copy", pushed.source, target, "--max-size", "1M")
    assert "under a tag" in refused(imports, "copy", pushed.source, f"{target}@sha256:{'0' * 64}")
    between.changed[pushed.blobs["root"]] = bytes(len(LARGE))
    assert "skopeo cannot copy between" in refused(imports, "copy", pushed.source, target)
    assert "check the name and the tag" in refused(imports, "pull", target)


def test_copies_to_a_registry_and_from_one(imports: Imports, registry: Callable[..., Registry]) -> None:
    target = f"docker://{registry().address}/site/mine:2"
    digest = copied(imports, "base:1", target, "--insecure")
    assert copied(imports, target, "back:3", "--insecure") == digest
    assert json.loads(imports.run("show", "back:3", "--json").stdout)["origins"][0]["source"] == target


def test_copies_within_and_between_libraries(imports: Imports, pushed: Pushed, tmp_path: Path) -> None:
    assert pull(imports, pushed.source) == pushed.digest
    assert copied(imports, "app:1", "same:1") == pushed.digest
    assert set(imports.library.names(pushed.digest)) == {"app:1", "same:1"}
    with imports.library.open(parse("same:1")) as image:
        assert image.provenance.origins == (pushed.source,)
    assert "to a name, not to a digest" in refused(imports, "copy", "app:1", pushed.digest)
    assert "there is no image none:1" in refused(imports, "copy", "none:1", "app:2")
    other = Library(tmp_path / "other")
    assert copy(imports.library, parse("app:1"), other, Name("app", "7")) == pushed.digest
    imports.library.remove(parse(pushed.digest))
    with other.open(parse("app:7")) as image:
        assert image.provenance.origins == (pushed.source,)
    assert other.verify().bad == ()


def test_a_copy_is_compared_with_its_digests(imports: Imports, pushed: Pushed, tmp_path: Path) -> None:
    """Also where the library that it comes from believes to have compared it."""
    source, target = Library(tmp_path / "elsewhere"), Library(tmp_path / "target")
    path = source.layout.blob(pushed.blobs["root"])
    path.write_bytes(bytes(path.stat().st_size))
    descriptor = os.open(path, os.O_RDONLY)
    record(source.layout, pushed.blobs["root"], descriptor)
    os.close(descriptor)
    with pytest.raises(Corrupt, match="does not match its digest"):
        copy(source, parse("app:1"), target, Name("app"))
    assert target.images() == []
    target.collect()
    assert list(target.layout.blobs.iterdir()) == []


def test_of_many_hosts_one_asks_the_registry(imports: Imports, between: Between, pushed: Pushed, tmp_path: Path) -> None:
    """Hosts with libraries of their own, and a folder that they share."""
    cache = tmp_path / "shared" / "cache"
    settings = [tmp_path / f"host{number}.toml" for number in range(4)]
    for number, path in enumerate(settings):
        path.write_text(f'[library]\nuser = "{tmp_path}/library{number}"\ncache = "{cache}"\n')
    hosts = [
        subprocess.Popen(
            imports.command("pull", pushed.source, "--insecure"),
            env=imports.environment() | {"DAYFLY_SETTINGS": str(path)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for path in settings
    ]
    assert [(host.communicate(timeout=120)[0].strip(), host.returncode) for host in hosts] == [(pushed.digest, 0)] * 4
    fetched = [path for path in between.asked if "/blobs/sha256:" in path]
    assert len(fetched) == len(set(fetched)) == len(set(pushed.blobs.values()))
    for number in range(4):
        library = Library(tmp_path / f"library{number}")
        assert library.names(pushed.digest) == ("app:1",)
        assert library.verify().bad == ()
        with library.open(parse("app:1")) as image:
            assert image.provenance.origins == (pushed.source,)
    assert [(image.name, image.digest) for image in Library(cache).images()] == [("", pushed.digest)]


def test_a_cache_that_lies(imports: Imports, pushed: Pushed, tmp_path: Path) -> None:
    assert pull(imports, pushed.source, "--cache", tmp_path / "cache") == pushed.digest
    imports.library.remove(parse("app:1"))
    imports.library.collect()
    cache = Library(tmp_path / "cache")
    path = cache.layout.blob(pushed.blobs["root"])
    path.write_bytes(bytes(path.stat().st_size))
    descriptor = os.open(path, os.O_RDONLY)
    record(cache.layout, pushed.blobs["root"], descriptor)
    os.close(descriptor)
    assert "does not match its digest" in refused(imports, "pull", pushed.source, "--cache", tmp_path / "cache")
    assert cache.verify().bad != ()
    assert pull(imports, pushed.source, "--cache", tmp_path / "cache") == pushed.digest


def test_with_tls_and_a_password(imports: Imports, secure: tuple[str, Path], tmp_path: Path) -> None:
    address, ca = secure
    target = f"docker://{address}/site/app:1"
    said = imports.run("push", "base:1", target, "--ca", ca).stderr
    assert f"skopeo cannot send to {address}" in said
    assert "log in with `skopeo login" in said
    known = ("--ca", ca, "--auth-file", credentials(tmp_path / "auth.json", address))
    pushed = imports.run("push", "base:1", target, *known)
    assert pushed.returncode == 0, pushed.stderr
    assert "log in with `skopeo login" in imports.run("pull", target, "--ca", ca).stderr
    pulled = imports.run("pull", target, *known)
    assert pulled.stdout == pushed.stdout, pulled.stderr
    assert b"secret" not in (imports.library.layout.index).read_bytes()


def test_a_registry_that_takes_nothing_is_given_up(imports: Imports) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = f"docker://127.0.0.1:{server.getsockname()[1]}/a:1"
        said = refused(imports, "push", "base:1", target, "--timeout", "2s")
    hint = "run the same command again; it resumes, or wait longer with --timeout"
    assert f"accepted nothing for 2.00 s ({hint})" in said


def test_signatures_go_with_an_image(imports: Imports, registry: Callable[..., Registry], tmp_path: Path) -> None:
    """To a registry, where they join those that are there, from one to another, into a library, and through a cache."""
    pairs = {name: key_pair(tmp_path, name) for name in ("site", "lab")}
    first, second = (f"docker://{registry().address}/{place}/app:1" for place in ("site", "lab"))
    digest = imports.library.resolve(parse("base:1")).descriptor.digest
    for name in pairs:
        cosign.sign(imports.library, digest, "base:1", pairs[name][0])
        assert imports.run("push", "base:1", first, "--insecure").returncode == 0
        with changing(imports.library.layout) as versions:
            versions.append(versions[-1].without_name(cosign.tag(digest)))
    assert copied(imports, first, second, "--insecure") == digest
    imports.library.remove(parse("base:1"))
    imports.library.collect(unnamed=True)
    assert pull(imports, second, "back:1", "--cache", tmp_path / "cache") == digest
    for name, (_, public) in pairs.items():
        cosign.add_key(imports.library, name, public)
    assert cosign.verify(imports.library, digest) == ["key:lab", "key:site"]
    assert len(cosign.signatures(Library(tmp_path / "cache"), digest)) == 2
    assert [image.name for image in imports.library.images()] == ["back:1"]


def test_signatures_that_cannot_be_read_do_not_hinder(imports: Imports, between: Between, pushed: Pushed) -> None:
    cosign_tag = cosign.tag(pushed.digest)
    between.changed[cosign_tag] = b'{"layers": 7}'
    run(
        *("skopeo", "--insecure-policy", "copy", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false"),
        *(f"docker://{between.registry}/site/app:1", f"docker://{between.registry}/site/app:{cosign_tag}"),
    )
    done = imports.run("pull", pushed.source, "--insecure")
    assert done.stdout.strip() == pushed.digest
    assert "its signatures cannot be fetched: " in done.stderr
    with pytest.raises(NotFound):
        cosign.signatures(imports.library, pushed.digest)
