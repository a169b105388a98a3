"""Manifests and configs: read strictly, written canonically."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from importlib import resources
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.image.examples import CONFIG

from dayfly.errors import Refused
from dayfly.guest.boot import BootMode
from dayfly.image.fields import encode
from dayfly.image.manifest import (
    CONFIG_TYPE,
    Descriptor,
    ImageConfig,
    Kernel,
    Manifest,
    OperatingSystem,
    Parent,
    Role,
    layer,
    layer_type,
    parse_config,
    parse_manifest,
    render_config,
    render_manifest,
)

DIGEST = "sha256:" + "ab" * 32
LAYERS = [
    layer(Role.ROOT, "erofs", DIGEST, 5),
    layer(Role.KERNEL, "elf", DIGEST, 6),
    layer(Role.MODULES, "squashfs", DIGEST, 7),
    layer(Role.BOOT_MODULES, "cpio", DIGEST, 8),
]
MANIFEST = Manifest(Descriptor(CONFIG_TYPE, DIGEST, 100), tuple(LAYERS), {"org.example": "x"})

_lines = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=30)
_configs = st.builds(
    ImageConfig,
    os=st.builds(OperatingSystem, st.from_regex(r"\A[a-z0-9][a-z0-9._-]{0,10}\Z"), _lines, _lines),
    kernel=st.builds(Kernel, st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._+~-]{0,20}\Z"), st.sampled_from(["", "quiet nosmt"])),
    boot=st.sampled_from([BootMode.AGENT, BootMode.SYSTEM]),
    size=st.integers(0, 1024**4),
    environment=st.dictionaries(st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_]{0,10}\Z"), _lines, max_size=3),
    labels=st.dictionaries(_lines, _lines, max_size=3),
    default_user=st.sampled_from(["", "worker", "1000:1000"]),
    entrypoint=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20), max_size=3).map(
        tuple
    ),
    command=st.lists(_lines, max_size=3).map(tuple),
    directory=st.sampled_from(["", "/", "/srv/a b"]),
    recipe=st.sampled_from(["", DIGEST]),
    parent=st.sampled_from([None, Parent(DIGEST), Parent(DIGEST, "debian:12")]),
)
_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from([DIGEST, layer_type(Role.ROOT, "erofs")]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def schema() -> Any:
    return json.loads(resources.files("dayfly.image").joinpath("config.schema.json").read_bytes())


@given(_configs)
def test_a_config_survives_being_written_and_is_as_its_schema_says(config: ImageConfig) -> None:
    content = render_config(config, LAYERS)
    assert parse_config(content) == config
    jsonschema.validate(json.loads(content), schema())
    assert content == encode(json.loads(content)), "it is canonical"


@pytest.mark.parametrize("boot", [BootMode.BIOS, BootMode.EFI])
def test_a_whole_disk_has_no_kernel_that_is_known(boot: BootMode) -> None:
    disk = layer(Role.DISK, "qcow2", DIGEST, 5)
    config = ImageConfig(OperatingSystem("linux"), boot=boot, size=9)
    content = render_config(config, [disk])
    assert parse_config(content) == config
    jsonschema.validate(json.loads(content), schema())
    assert parse_manifest(render_manifest(Manifest(MANIFEST.config, (disk,)))).layers == (disk,)
    for beside in (LAYERS[0], disk):
        with pytest.raises(Refused, match="layers of the type"):
            parse_manifest(render_manifest(Manifest(MANIFEST.config, (disk, beside))))


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


def test_a_manifest_survives_being_written() -> None:
    content = render_manifest(MANIFEST)
    assert parse_manifest(content) == MANIFEST
    assert render_manifest(parse_manifest(content)) == content
    assert MANIFEST.find(Role.KERNEL) == LAYERS[1]
    assert LAYERS[2].form == "squashfs"


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to everything in a JSON value."""
    found = [path] if path else []
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        found += paths(inner, (*path, key))
    return found


def mutated(content: bytes, path: tuple[Any, ...], value: Any) -> bytes:
    tree = json.loads(content)
    place = tree
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(tree).encode()


_MANIFEST_BYTES = render_manifest(MANIFEST)
_CONFIG_BYTES = render_config(CONFIG, LAYERS)


@given(st.sampled_from(paths(json.loads(_MANIFEST_BYTES))), _json)
def test_a_manifest_with_anything_in_any_place_is_read_or_refused(path: tuple[Any, ...], value: Any) -> None:
    try:
        manifest = parse_manifest(mutated(_MANIFEST_BYTES, path, value))
    except Refused:
        return
    assert parse_manifest(render_manifest(manifest)) == manifest


@given(st.sampled_from(paths(json.loads(_CONFIG_BYTES))), _json)
def test_a_config_with_anything_in_any_place_is_read_or_refused(path: tuple[Any, ...], value: Any) -> None:
    try:
        config = parse_config(mutated(_CONFIG_BYTES, path, value))
    except Refused:
        return
    assert parse_config(render_config(config, LAYERS)) == config


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(content: bytes) -> None:
    for parse in (parse_manifest, parse_config):
        with pytest.raises(Refused):
            parse(content)


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"schemaVersion": NaN}',
        b'{"schemaVersion": ' + b"9" * 10_000 + b"}",
        b" " * (4 * 1024**2 + 1),
        b'{"schemaVersion":2,"artifactType":"application/vnd.dayfly.image.v1","annotations":{"a":"\\ud800"}}',
        b"\xff\xfe{}",
    ],
    ids=["deep", "nan", "digits", "large", "surrogate", "utf-16"],
)
def test_hostile_manifests_are_refused(content: bytes) -> None:
    with pytest.raises(Refused):
        parse_manifest(content)


def _without(role: Role) -> Manifest:
    return replace(MANIFEST, layers=tuple(item for item in LAYERS if item.role is not role))


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (_without(Role.ROOT), "0 layers of the type root"),
        (_without(Role.KERNEL), "0 layers of the type kernel"),
        (replace(MANIFEST, layers=(*LAYERS, LAYERS[0])), "2 layers of the type root"),
        (replace(MANIFEST, layers=tuple(LAYERS) * 17), "at most 64"),
        (replace(MANIFEST, layers=(layer(Role.ROOT, "ext4", DIGEST, 1), LAYERS[1])), "root is ext4, not erofs or squashfs"),
        (replace(MANIFEST, layers=(LAYERS[0], layer(Role.KERNEL, "elf", DIGEST, 1024**3))), "more than"),
        (replace(MANIFEST, config=Descriptor("application/x", DIGEST, 1)), "not an OCI image config"),
        (replace(MANIFEST, config=Descriptor(CONFIG_TYPE, DIGEST, 1024**3)), "not an OCI image config"),
        (replace(MANIFEST, config=Descriptor(CONFIG_TYPE, "sha256:../../../etc/passwd", 1)), "not a sha256 digest"),
        (replace(MANIFEST, config=Descriptor(CONFIG_TYPE, DIGEST, -1)), "not a whole number"),
        (replace(MANIFEST, annotations={"a": "two\nlines"}), "control character"),
    ],
)
def test_what_is_wrong_with_a_manifest_is_said(manifest: Manifest, message: str) -> None:
    with pytest.raises(Refused, match=message):
        parse_manifest(render_manifest(manifest))


def test_layers_of_other_kinds_are_left_alone() -> None:
    other = Descriptor("application/spdx+json", DIGEST, 3)
    manifest = replace(MANIFEST, layers=(*LAYERS, other))
    assert parse_manifest(render_manifest(manifest)) == manifest


def _config(**changes: Any) -> bytes:
    return render_config(replace(CONFIG, **changes), LAYERS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{}", "not that of a Dayfly image"),
        (_CONFIG_BYTES.replace(b'"schema":1', b'"schema":2'), "format 2.*newer Dayfly"),
        (_CONFIG_BYTES.replace(b'"amd64"', b'"arm64"'), "architecture"),
        (_config(kernel=Kernel("../../x")), "kernel.version"),
        (_config(kernel=Kernel("6.1", "dayfly.root=vdb:ext4")), "reserved for Dayfly"),
        (_config(kernel=Kernel("6.1", 'quiet "init=/bin/sh"')), "reserved for Dayfly"),
        (_config(kernel=Kernel("6.1", "a\nb")), "commandLine"),
        (_config(environment={"A-B": "c"}), "is not NAME=value"),
        (_config(environment={"A": "c\0"}), "is not NAME=value"),
        (_config(default_user="Root!"), "User"),
        (_config(directory="here"), "WorkingDir"),
        (_config(directory="/a/../b"), "WorkingDir"),
        (_config(entrypoint=("a\0",)), "Entrypoint"),
        (_config(command=("x" * 131_073,)), "Cmd"),
        (_config(created="yesterday"), "created"),
        (_config(labels={str(number): "x" for number in range(300)}), "more than 256"),
    ],
)
def test_what_is_wrong_with_a_config_is_said(content: bytes, message: str) -> None:
    with pytest.raises(Refused, match=message):
        parse_config(content)


def test_a_manifest_that_is_not_ours_is_told_from_a_broken_one() -> None:
    tree = json.loads(_MANIFEST_BYTES)
    container = deepcopy(tree)
    del container["artifactType"]
    with pytest.raises(Refused, match="not that of a Dayfly image"):
        parse_manifest(json.dumps(container).encode())
