"""Other people's tools read our layout: skopeo, the registry of Debian's docker-registry, and oras."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.image.examples import CONFIG, LAYERS

from dayfly.image.library import Library
from dayfly.image.manifest import ARTIFACT_TYPE, Role
from dayfly.image.reference import Name, parse


def run(*command: object) -> str:
    return subprocess.run([*map(str, command)], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def skopeo() -> str:
    path = shutil.which("skopeo")
    assert path, "install the package skopeo"
    return path


@pytest.fixture
def library(tmp_path: Path) -> Library:
    library = Library(tmp_path / "library")
    library.add(CONFIG, LAYERS, Name("debian", "12"))
    return library


def test_skopeo_inspects_an_image(skopeo: str, library: Library) -> None:
    digest, manifest, _ = library.inspect(parse("debian:12"))
    where = f"oci:{library.layout.folder}:debian:12"
    seen = json.loads(run(skopeo, "inspect", where))
    assert seen["Digest"] == digest
    assert seen["Created"] == CONFIG.created
    assert seen["Labels"] == CONFIG.labels
    assert sorted(seen["Env"]) == sorted(f"{name}={value}" for name, value in CONFIG.environment.items())
    assert seen["Layers"] == [layer.digest for layer in manifest.layers]
    assert json.loads(run(skopeo, "inspect", "--raw", where))["artifactType"] == ARTIFACT_TYPE


def test_skopeo_copies_an_image_bit_for_bit(skopeo: str, library: Library, tmp_path: Path) -> None:
    copy = Library(tmp_path / "copy")
    run(skopeo, "--insecure-policy", "copy", f"oci:{library.layout.folder}:debian:12", f"oci:{copy.layout.folder}:debian:12")
    with library.open(parse("debian:12")) as ours, copy.open(parse("debian:12")) as theirs:
        assert (ours.digest, ours.config) == (theirs.digest, theirs.config)
    assert copy.verify().bad == ()


def test_skopeo_adds_to_a_library(skopeo: str, library: Library, tmp_path: Path) -> None:
    target = Library(tmp_path / "target")
    target.add(CONFIG, {**LAYERS, Role.ROOT: LAYERS[Role.MODULES]}, Name("debian", "13"))
    run(skopeo, "--insecure-policy", "copy", f"oci:{library.layout.folder}:debian:12", f"oci:{target.layout.folder}:debian:12")
    assert [(image.name, image.problem) for image in target.images()] == [("debian:12", ""), ("debian:13", "")]
    target.collect(unnamed=True)
    target.open(parse("debian:12")).close()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    program = shutil.which("docker-registry")
    assert program, "install the package docker-registry"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    config = tmp_path / "registry.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {tmp_path}/registry}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
    )
    with (
        (tmp_path / "registry.log").open("wb") as log,
        subprocess.Popen([program, "serve", config], stdout=log, stderr=log) as process,
    ):
        try:
            for _ in range(200):
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except ConnectionRefusedError:
                    assert process.poll() is None, (tmp_path / "registry.log").read_text()
                    time.sleep(0.05)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


def test_a_registry_keeps_an_image_bit_for_bit(skopeo: str, library: Library, registry: str, tmp_path: Path) -> None:
    remote = f"docker://{registry}/site/debian:12"
    run(skopeo, "--insecure-policy", "copy", "--dest-tls-verify=false", f"oci:{library.layout.folder}:debian:12", remote)
    back = Library(tmp_path / "back")
    run(skopeo, "--insecure-policy", "copy", "--src-tls-verify=false", remote, f"oci:{back.layout.folder}:debian:12")
    assert [image.digest for image in back.images()] == [image.digest for image in library.images()]
    assert back.verify().bad == ()


def test_oras_pulls_the_layers_under_their_names(
    skopeo: str, library: Library, registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = pytest.importorskip("oras.client", reason="the Python package oras is one of the development dependencies")
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    run(
        *(skopeo, "--insecure-policy", "copy", "--dest-tls-verify=false"),
        *(f"oci:{library.layout.folder}:debian:12", f"docker://{registry}/site/debian:12"),
    )
    oras = client.OrasClient(insecure=True)
    files = {
        Path(path).name: Path(path).read_bytes()
        for path in oras.pull(target=f"{registry}/site/debian:12", outdir=str(tmp_path / "out"))
    }
    assert files == dict(
        zip(
            ["root.erofs", "vmlinux", "modules.erofs", "boot-modules.cpio"],
            (layer.content for layer in LAYERS.values()),
            strict=True,
        )
    )
    assert oras.get_manifest(f"{registry}/site/debian:12")["artifactType"] == ARTIFACT_TYPE
