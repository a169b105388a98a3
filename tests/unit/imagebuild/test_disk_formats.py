"""Disk images' headers: what they are, and that whatever leads out of one is refused."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.framework.headers import DESCRIPTION, QCOW2, opened, qcow2, vdi, vmdk

from dayfly.errors import Refused
from dayfly.imagebuild.disk.formats import Format, Recognised, recognise

SIZE = 5 * 1024**2


def look(content: bytes) -> Recognised:
    with opened(content) as file:
        return recognise(file, "it")


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (qcow2(), Format.QCOW2),
        (qcow2(version=2), Format.QCOW2),
        (qcow2(incompatible=0b11001), Format.QCOW2),
        (qcow2(extensions=[(0x6803F857, b"x" * 48), (0x23852875, b"y" * 24)]), Format.QCOW2),
        (vmdk(), Format.VMDK),
        (vmdk(DESCRIPTION.replace(b"monolithicSparse", b"streamOptimized"), at_end=True), Format.VMDK),
        (vdi(), Format.VDI),
        (vdi(kind=2), Format.VDI),
        (bytes(510) + b"\x55\xaa" + bytes(SIZE - 512), Format.RAW),
        (bytes(1080) + b"\x53\xef" + bytes(SIZE - 1082), Format.RAW),
    ],
)
def test_disks_that_are_whole(content: bytes, form: Format) -> None:
    assert look(content) == Recognised(form, SIZE)


@pytest.mark.parametrize(
    ("about", "why"),
    [
        ({"backing": 512, "backing_size": 11}, "needs a backing file"),
        ({"backing": 512}, "a backing file"),
        ({"backing_size": 11}, "a backing file"),
        ({"backing": 512, "backing_size": 11, "version": 2}, "a backing file"),
        ({"incompatible": 0b100}, "its data in another file"),
        ({"incompatible": 0b10}, "damaged"),
        ({"incompatible": 1 << 40}, "features"),
        ({"crypt": 1}, "encrypted"),
        ({"version": 1}, "version 1"),
        ({"version": 4}, "version 4"),
        ({"cluster_bits": 60}, "clusters"),
        ({"length": 1 << 30}, "a header of"),
        ({"extensions": [(0x44415441, b"/etc/passwd")]}, "another file with its data"),
        ({"extensions": [(0xE2792ACA, b"raw")]}, "a backing file"),
        ({"extensions": [(0x6803F857, b"x" * 48), (0x0537BE77, bytes(16))]}, "encryption"),
    ],
)
def test_a_qcow2_that_leads_elsewhere(about: Mapping[str, int], why: str) -> None:
    with pytest.raises(Refused, match=why):
        look(qcow2(**about))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (vmdk(capacity=0), "in other files"),
        (b"# Disk DescriptorFile\nversion=1\n", "in other files"),
        (vmdk(DESCRIPTION.replace(b"monolithicSparse", b"twoGbMaxExtentSparse")), "type twoGbMaxExtentSparse"),
        (vmdk(DESCRIPTION.replace(b"monolithicSparse", b"vmfs")), "type vmfs"),
        (vmdk(DESCRIPTION.replace(b"createType", b"x")), "type unknown"),
        (vmdk(DESCRIPTION + b'RW 100 FLAT "/etc/passwd" 0\n'), "2 extents"),
        (vmdk(DESCRIPTION.replace(b" SPARSE ", b" FLAT ")), "other files"),
        (vmdk(DESCRIPTION + b'parentFileNameHint="/etc/passwd"\n'), "only the differences"),
        (vmdk(DESCRIPTION + b'\0\0parentfilenamehint="/etc/passwd"\n'), "only the differences"),
        (vmdk(DESCRIPTION.replace(b"parentCID=ffffffff", b"parentCID=12345678")), "only the differences"),
        (vmdk(place=0), "has no description"),
        (vmdk(sectors=1 << 20), "has no description"),
        (vmdk(place=1 << 30), "truncated"),
        (vmdk(version=9), "version 9"),
        (vmdk(at_end=True)[:-1024], "truncated"),
        (vdi(kind=4), "only the differences"),
        (vdi(kind=3), "only the differences"),
        (vdi(parent=b"p" * 16), "only the differences"),
        (vdi(link=b"l" * 16), "only the differences"),
        (vdi(version=0x10000), "version 1.0"),
        (vdi(used=3), "truncated"),
        (vdi()[:0x1B0], "only the differences"),
        (vdi()[:0x100], "is truncated in its header"),
        (QCOW2[:40], "is truncated in its header"),
        (b"conectix" + bytes(504), "VHD"),
        (bytes(4096) + b"conectix" + bytes(504), "VHD"),
        (b"vhdxfile" + bytes(1000), "VHDX"),
        (b"\x1f\x8b" + bytes(1000), "compressed with gzip"),
        (b"\xfd7zXZ\0" + bytes(1000), "compressed with xz"),
        (bytes(0x8001) + b"CD001" + bytes(100), "is a CD image"),
        (b"", "not a disk image"),
        (b"hello", "not a disk image"),
    ],
)
def test_others_are_refused(content: bytes, why: str) -> None:
    with pytest.raises(Refused, match=why):
        look(content)


@given(st.binary(max_size=4096), st.sampled_from([qcow2(), vmdk(), vmdk(at_end=True), vdi()]), st.integers(0, 2048))
def test_any_bytes_are_a_disk_or_refused(noise: bytes, whole: bytes, at: int) -> None:
    for content in (noise, whole[: at + 4] + noise, whole[:at] + noise + whole[at + len(noise) :]):
        try:
            found = look(content)
        except Refused:
            continue
        assert found.size >= 0
