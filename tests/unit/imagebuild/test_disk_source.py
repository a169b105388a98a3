"""What means a disk, and which one."""

from __future__ import annotations

from pathlib import Path

import pytest

from dayfly.errors import Refused
from dayfly.imagebuild.disk.source import Checksum, parse, parse_checksum


@pytest.mark.parametrize(
    ("text", "shown", "name"),
    [
        ("disk:/a/Debian-12.qcow2", "disk:/a/Debian-12.qcow2", "debian-12:latest"),
        ("disk:/a/odd", "disk:/a/odd", "odd:latest"),
        ("disk:x.raw", f"disk:{Path.cwd()}/x.raw", "x:latest"),
        ("b/x.vmdk", f"disk:{Path.cwd()}/b/x.vmdk", "x:latest"),
        ("https://h.example:8443/a/d.img", "https://h.example:8443/a/d.img", "d:latest"),
        ("https://h.example/d.qcow2?sig=secret#x", "https://h.example/d.qcow2", "d:latest"),
        ("https://h.example/a%20b.qcow2", "https://h.example/a%20b.qcow2", ""),
    ],
)
def test_disks(text: str, shown: str, name: str) -> None:
    source = parse(text)
    assert source is not None
    assert str(source) == shown
    if name:
        assert str(source.name()) == name
    else:
        with pytest.raises(Refused, match="no image name"):
            source.name()


@pytest.mark.parametrize("text", ["docker://a/b.img", "oci:/a.img:1", "a.tar", "http://h.example/d.qcow2", "oci-archive:x.raw"])
def test_others(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "disk:",
        "disk:a\0b",
        "disk:a\nb",
        "https://user@h.example/d.qcow2",
        "https://h.example",
        "https:///d.qcow2",
        "https://h.example:x/d.qcow2",
        "https://h.example/a b",
        "https://h.example/" + "x" * 5000,
    ],
)
def test_no_disks(text: str) -> None:
    with pytest.raises(Refused):
        parse(text)


def test_checksums() -> None:
    digits = "AB" * 32
    assert (
        parse_checksum("sha256", f" sha256:{digits}\n") == parse_checksum("sha256", digits) == Checksum("sha256", digits.lower())
    )
    for algorithm, text in (("sha512", digits), ("sha256", "g" * 64), ("sha256", "")):
        with pytest.raises(Refused, match=f"not a {algorithm} checksum"):
            parse_checksum(algorithm, text)
