"""Images and the machines that run from them, through the command."""

from __future__ import annotations

import json
from pathlib import Path

from dayfly.image.library import Library
from dayfly.image.reference import parse
from tests.framework.site import Site


def test_gc_leaves_what_a_machine_uses(site: Site, own_library: Library) -> None:
    _, manifest, _ = own_library.inspect(parse("debian:12"))
    root = next(own_library.layout.blob(layer.digest) for layer in manifest.layers if layer.role == "root")
    with site.start(
        "run", "user/debian:12", "--", "sh", "-c", "echo up; read line; find / -xdev -type f | wc -l; echo $line"
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        digest = json.loads(site.dayfly("image", "show", "user/debian:12", "--json").out)["digest"]
        removed = site.dayfly("image", "remove", f"user/{digest}")
        assert removed.status == 0, removed.err
        collected = json.loads(site.dayfly("image", "gc", "--json").out)
        assert collected["in_use"]
        assert root.exists()
        process.stdin.write(b"end\n")
        process.stdin.close()
        count, last = process.stdout.read().split()
        assert int(count) > 1000
        assert last == b"end"
        assert process.wait(30) == 0
    assert json.loads(site.dayfly("image", "gc", "--json").out)["in_use"] == []
    assert not root.exists()


def test_listing_showing_and_verifying(site: Site, own_library: Library) -> None:
    listed = [image for image in json.loads(site.dayfly("image", "list", "--json").out) if image["library"] == "user"]
    assert "debian:12" in [image["name"] for image in listed]
    shown = json.loads(site.dayfly("image", "show", "user/debian:12", "--json").out)
    assert shown["config"]["os"]["id"] == "debian"
    assert set(shown["layers"]) == {"root", "kernel", "modules", "boot-modules"}
    verified = json.loads(site.dayfly("image", "verify", "user/debian:12", "--json").out)
    assert (verified["checked"] >= 4, verified["bad"]) == (True, [])
    assert site.dayfly("image", "show", "none:here").status == 125
    assert Path(own_library.layout.folder).is_dir()


def test_doctor(site: Site) -> None:
    found = {finding["check"]: finding for finding in json.loads(site.dayfly("doctor", "--json").out)}
    assert found["QEMU"]["health"] == "ok"
    assert found["guest agent"]["health"] == "ok"
    assert found["importing container images"]["health"] == "ok"
    site.configure(machine_qemu="qemu-none")
    broken = site.dayfly("doctor")
    assert broken.status == 1
    assert b"install the package qemu-system-x86" in broken.out
