"""The initramfs: read back by a reader written from the format's description."""

from __future__ import annotations

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.guest import initramfs

Member = tuple[str, list[int], bytes]


def members(data: bytes) -> list[Member]:
    """Every file of one or more `newc` archives, with its 13 numbers, as the kernel goes through them."""
    found: list[Member] = []
    at = 0
    while at < len(data):
        if data[at] == 0:  # between archives
            at += 4
            continue
        assert at % 4 == 0
        assert data[at : at + 6] == b"070701"
        numbers = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        size, name_size = numbers[6], numbers[11]
        name = data[at + 110 : at + 110 + name_size]
        assert name.endswith(b"\0")
        start = (at + 110 + name_size + 3) & ~3
        found.append((name[:-1].decode(), numbers, data[start : start + size]))
        at = (start + size + 3) & ~3
    return found


names = st.text("abcdefghij_-0123456789", min_size=1, max_size=20).map(lambda name: f"{name}.ko")
modules = st.lists(st.tuples(names, st.binary(max_size=300)), max_size=8, unique_by=lambda module: module[0])


@given(modules)
def test_modules_come_back_in_their_order(given_modules: list[tuple[str, bytes]]) -> None:
    data = initramfs.modules_archive(given_modules)
    assert len(data) % 512 == 0
    directory, load, *files, trailer = members(data)
    assert (directory[0], stat.S_ISDIR(directory[1][1])) == ("modules", True)
    assert (load[0], load[2].decode().splitlines()) == ("modules/load", [name for name, _ in given_modules])
    expected = [(f"modules/{name}", content) for name, content in given_modules]
    assert [(name, content) for name, _, content in files] == expected
    assert trailer[0] == "TRAILER!!!"


@given(st.binary(max_size=2000), modules)
def test_archives_can_stand_one_after_the_other(agent: bytes, given_modules: list[tuple[str, bytes]]) -> None:
    data = initramfs.agent_archive(agent) + initramfs.modules_archive(given_modules)
    found = [name for name, _, _ in members(data)]
    assert found.count("TRAILER!!!") == 2
    assert found[found.index("TRAILER!!!") + 1] == "modules"


def test_the_agent_is_init_and_has_a_console() -> None:
    found = {name: (numbers, content) for name, numbers, content in members(initramfs.agent_archive(b"\x7fELF"))}
    numbers, content = found["init"]
    assert (oct(numbers[1]), content) == ("0o100755", b"\x7fELF")
    numbers, _ = found["dev/console"]
    assert stat.S_ISCHR(numbers[1])
    assert numbers[9:11] == [5, 1]
    assert {"dev", "proc", "sys"} <= set(found)


def test_nothing_of_the_maker_is_in_it() -> None:
    data = initramfs.agent_archive(b"agent")
    assert data == initramfs.agent_archive(b"agent")
    for inode, (_, numbers, _) in enumerate(members(data)[:-1], start=1):
        assert numbers[0] == inode
        assert numbers[2:4] == [0, 0]  # root's
        assert numbers[5] == 0  # of the epoch


@pytest.mark.parametrize("name", ["", "a/b.ko", "load", "a\n.ko", "a\0.ko"])
def test_a_module_name_cannot_leave_its_folder_or_line(name: str) -> None:
    with pytest.raises(ValueError, match="file name"):
        initramfs.modules_archive([(name, b"")])


def test_a_module_comes_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        initramfs.modules_archive([("a.ko", b""), ("a.ko", b"")])


SIGNED = b"\x7fELF module" + b"s" * 300 + bytes(8) + (300).to_bytes(4, "big") + b"~Module signature appended~\n"


def test_a_signature_is_taken_off_and_nothing_else() -> None:
    assert initramfs.without_signature(SIGNED) == b"\x7fELF module"
    assert initramfs.without_signature(b"\x7fELF module") == b"\x7fELF module"


@pytest.mark.parametrize("cut", [300, 320, len(SIGNED) - 28])
def test_a_signature_that_is_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(ValueError, match="signature"):
        initramfs.without_signature(SIGNED[cut:])


@pytest.mark.parametrize("path", ["", "/init", "a\0b"])
def test_paths_are_inside_the_archive(path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        initramfs.archive([initramfs.regular(path, b"")])
