"""Kernels: unpacked from made-up bzImages."""

from __future__ import annotations

import contextlib
import gzip
import lzma
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.framework.kernels import bzimage, elf, note

from dayfly.errors import Refused
from dayfly.imagebuild.kernel import has_pvh_entry, release, vmlinux

PACKED = {
    "gzip": gzip.compress(elf()),
    "xz": lzma.compress(elf()) + struct.pack("<I", len(elf())),
    "xz with a filter": lzma.compress(elf(), filters=[{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2}]) + b"size",
    "lzma": lzma.compress(elf(), lzma.FORMAT_ALONE) + b"size",
    "plain": elf(),
}


@pytest.mark.parametrize("how", list(PACKED))
@pytest.mark.parametrize("setup", [0, 3, 39])
def test_a_kernel_is_unpacked(how: str, setup: int) -> None:
    image = bzimage(PACKED[how], setup=setup)
    assert vmlinux(image) == elf()
    assert release(image) == "6.1.0-44-amd64"


def test_an_elf_kernel_stays_what_it_is() -> None:
    assert vmlinux(elf()) == elf()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"", "neither a bzImage nor an ELF"),
        (b"MZ" + b"\0" * 5000, "neither a bzImage nor an ELF"),
        (bzimage(PACKED["xz"], version=0x0207), "boot protocol 2.07 is older"),
        (bzimage(PACKED["xz"], length=10**6), "points outside"),
        (bzimage(PACKED["xz"], length=0), "points outside"),
        (bzimage(PACKED["xz"], offset=2**20)[: 2**16], "points outside"),
        (bzimage(b"\xfd7zXZ\0" + b"\0" * 100), "cannot be unpacked"),
        (bzimage(b"\x1f\x8b" + b"\0" * 100), "cannot be unpacked"),
        (bzimage(b"BZh9" + b"\0" * 100), "unknown: it begins with 425a6839"),
        (bzimage(gzip.compress(b"not a kernel")), "no PVH entry"),
        (bzimage(gzip.compress(elf(note(18, b"Lin\0", b"1234")))), "no PVH entry"),
        (bzimage(gzip.compress(elf(b""))), "no PVH entry"),
    ],
)
def test_what_cannot_be_booted_is_refused(image: bytes, message: str) -> None:
    with pytest.raises(Refused, match=message):
        vmlinux(image)


@given(st.binary(max_size=200), st.integers(0, 400))
def test_garbage_is_refused_and_nothing_else(garbage: bytes, place: int) -> None:
    for image in (garbage, elf()[:place] + garbage, bzimage(PACKED["gzip"])[: 0x1F0 + place] + garbage):
        with contextlib.suppress(Refused):
            assert vmlinux(image)
        assert has_pvh_entry(image) in (True, False)


def test_a_kernel_without_a_version_is_refused() -> None:
    with pytest.raises(Refused, match="has no version"):
        release(b"\0" * 0x1000)
