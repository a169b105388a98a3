"""Modules: in the order in which they can be loaded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.errors import Refused
from dayfly.imagebuild.modules import NEEDED, load_order, module_name, parse_index

DEPENDENCIES = """\
kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio_ring.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio.ko:
kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz kernel/lib/crc16.ko.xz
kernel/fs/jbd2/jbd2.ko.xz:
kernel/lib/crc16.ko.xz:
kernel/crypto/crc32c-generic.ko.zst:
"""
BUILT_IN = "kernel/drivers/virtio/virtio_pci.ko\nkernel/fs/9p/9p.ko\n"


def test_dependencies_come_first_and_once() -> None:
    order = load_order(parse_index(DEPENDENCIES, BUILT_IN), ["virtio_blk", "ext4", "virtio_pci", "jbd2"])
    assert [module_name(path) for path in order] == ["virtio", "virtio_ring", "virtio_blk", "jbd2", "crc16", "ext4"]
    assert order[0] == "kernel/drivers/virtio/virtio.ko"


def test_names_are_as_the_kernel_says_them() -> None:
    index = parse_index(DEPENDENCIES, BUILT_IN)
    assert load_order(index, ["crc32c_generic"]) == ["kernel/crypto/crc32c-generic.ko.zst"]
    assert {"virtio_pci", "9p"} <= index.built_in


def test_what_is_missing_is_said_unless_it_may_be() -> None:
    index = parse_index(DEPENDENCIES, BUILT_IN)
    assert load_order(index, ["squashfs", "9p", "crc32c_intel"]) == []
    with pytest.raises(Refused, match="no module overlay, which every machine needs"):
        load_order(index, ["overlay"])


@pytest.mark.parametrize(
    "line", ["../../etc/passwd:", "/kernel/a.ko:", "kernel/a.ko: ../b.ko", "kernel/a.txt:", "nonsense", "kernel/a.ko"]
)
def test_lines_that_depmod_never_writes_are_refused(line: str) -> None:
    with pytest.raises(Refused, match="a malformed line"):
        parse_index(line, "")


def test_a_circle_is_refused() -> None:
    with pytest.raises(Refused, match="circular dependency: a b a"):
        load_order(parse_index("a.ko: b.ko\nb.ko: a.ko\n", ""), ["a"])


@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), max_size=40))
def test_any_order_of_dependencies_is_solved(edges: list[tuple[int, int]]) -> None:
    needs = {number: sorted({low for high, low in edges if high == number and low < high}) for number in range(16)}
    text = "".join(f"m{number}.ko: {' '.join(f'm{need}.ko' for need in found)}\n" for number, found in needs.items())
    order = load_order(parse_index(text, ""), [f"m{number}" for number in reversed(range(16))])
    place = {module_name(path): position for position, path in enumerate(order)}
    assert len(place) == len(order) == 16
    assert all(place[f"m{need}"] < place[f"m{number}"] for number, found in needs.items() for need in found)


def test_checksums_come_before_what_needs_them() -> None:
    assert NEEDED.index("crc32c_generic") < NEEDED.index("ext4")
    assert {"virtio_pci", "virtio_blk", "virtio_console", "overlay", "9p", "9pnet_virtio"} <= set(NEEDED)
