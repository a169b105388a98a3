"""Partition tables, whatever they claim."""

from __future__ import annotations

import os
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.framework.headers import SECTOR, gpt, mbr, opened

from dayfly.errors import Refused
from dayfly.imagebuild.disk.partitions import EFI, Partition, Table, read

SIZE = 10_000 * SECTOR
EFI_BYTES = uuid.UUID(EFI).bytes_le
LINUX = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")


def table(content: bytes, size: int = SIZE) -> Table:
    with opened(content) as file:
        os.ftruncate(file, max(size, len(content)))
        return read(file, size)


def test_an_mbr() -> None:
    found = table(mbr((0x83, 64, 100), (0, 0, 0), (0xEF, 200, 10), code=b"boot"))
    assert found == Table((Partition(1, 64 * SECTOR, 100 * SECTOR), Partition(3, 200 * SECTOR, 10 * SECTOR, EFI)), bios=True)


def test_logical_partitions() -> None:
    disk = bytearray(SIZE)
    disk[:SECTOR] = mbr((0x83, 64, 100), (0x0F, 1000, 5000))
    disk[1000 * SECTOR : 1001 * SECTOR] = mbr((0x83, 8, 50), (0x05, 500, 100))
    disk[1500 * SECTOR : 1501 * SECTOR] = mbr((0x83, 4, 20))
    found = table(bytes(disk)).partitions
    assert [(one.number, one.start // SECTOR, one.size // SECTOR) for one in found] == [
        (1, 64, 100),
        (5, 1008, 50),
        (6, 1504, 20),
    ]


def test_a_gpt() -> None:
    found = table(gpt((LINUX.bytes_le, 100, 199), (EFI_BYTES, 300, 399)))
    assert found.partitions == (
        Partition(1, 100 * SECTOR, 100 * SECTOR, str(LINUX)),
        Partition(2, 300 * SECTOR, 100 * SECTOR, EFI),
    )
    assert not found.bios


def test_a_disk_without_a_table_is_all_one() -> None:
    assert table(b"").partitions == (Partition(0, 0, SIZE),)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (mbr((0x83, 64, 10_000)), "partition 1 extends beyond the disk's end"),
        (mbr((0x83, 0, 100)), "no valid position"),
        (mbr((0x83, 2**32 - 1, 2**32 - 1)), "beyond the disk's end"),
        (mbr((0xEE, 1, 9999)), "no GPT"),
        (gpt((LINUX.bytes_le, 100, 50)), "no valid position"),
        (gpt((LINUX.bytes_le, 100, 2**63)), "beyond the disk's end"),
        (gpt((LINUX.bytes_le, 2**64 - 2, 2**64 - 1)), "beyond the disk's end"),
        (gpt((LINUX.bytes_le, 100, 199), spoilt="header"), "checksum is wrong"),
        (gpt((LINUX.bytes_le, 100, 199), spoilt="entries"), "checksum of its entries"),
        (gpt(count=2**32 - 1), "4294967295 entries"),
        (gpt(width=2**31), "entries of"),
        (gpt(width=100), "entries of"),
        (mbr((0x05, 1000, 100)), "extended partition is damaged"),
    ],
)
def test_tables_that_lie(content: bytes, why: str) -> None:
    with pytest.raises(Refused, match=why):
        table(content)


def test_an_extended_partition_that_is_a_circle() -> None:
    disk = bytearray(SIZE)
    disk[:SECTOR] = mbr((0x05, 1000, 5000))
    disk[1000 * SECTOR : 1001 * SECTOR] = mbr((0x83, 8, 50), (0x05, 0, 100))
    with pytest.raises(Refused, match="loop"):
        table(bytes(disk))


@given(st.binary(max_size=2048), st.integers(0, 1100), st.sampled_from([gpt((EFI_BYTES, 40, 50)), mbr((0x05, 2, 9))]))
def test_any_bytes_are_a_table_or_refused(noise: bytes, at: int, whole: bytes) -> None:
    for content in (noise.ljust(510, b"\0")[:510] + b"\x55\xaa" + noise, whole[:at] + noise + whole[at + len(noise) :]):
        try:
            found = table(content)
        except Refused:
            continue
        assert all(0 <= one.start < one.start + one.size <= SIZE for one in found.partitions)
