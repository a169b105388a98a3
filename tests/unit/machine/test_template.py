"""Keys of templates, and what they say of themselves."""

import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.guest.boot import BootMode
from dayfly.machine.command import render
from dayfly.machine.config import Accelerator, CpuModel, Disk, MachineConfig, Network, Shape, Share, Start
from dayfly.machine.resources import Memory
from dayfly.machine.snapshot.description import AgentState, Snapshot
from dayfly.machine.snapshot.description import render as render_snapshot
from dayfly.provision.templates.key import Key, key
from dayfly.provision.templates.publish import digest_of
from dayfly.provision.templates.publish import render as render_about
from dayfly.provision.templates.store import About, File, Unusable, parse_about
from tests.unit.machine.test_command import CONFIG, ENDS, FILES, after

CONTENT = {"image": "sha256:" + "ab" * 32, "agent": "1", "scratch": "8"}


@pytest.fixture
def qemu(tmp_path: Path) -> str:
    (tmp_path / "qemu").write_text("")
    return str(tmp_path / "qemu")


def test_what_is_each_machines_own_makes_no_other_template(qemu: str) -> None:
    share = Share("share0", "/home/ada", "/home/ada", readonly=False)
    one = replace(CONFIG, shares=(share,))
    other = replace(
        one,
        identity="9" * 10,
        label="another:name",
        mac="52:54:99:99:99:99",
        shares=(Share("share0", "/tmp", "/tmp", readonly=True),),
    )
    assert key(one, qemu, CONTENT) == key(other, qemu, CONTENT)


CHANGES: dict[str, dict[str, object]] = {
    "cpus": {"shape": Shape(1, CONFIG.shape.memory)},
    "memory": {"shape": Shape(2, 1 << 29)},
    "boot": {"boot": BootMode.SYSTEM},
    "network": {"network": Network.NAT},
    "accelerator": {"accelerator": Accelerator.KVM},
    "cpu": {"cpu": CpuModel.V2},
    "shares": {"shares": (Share("share0", "/a", "/a", readonly=False),)},
    "disks": {"disks": CONFIG.disks[:1]},
    "filesystem": {"disks": (Disk("root", "squashfs", readonly=True), *CONFIG.disks[1:])},
    "kernel words": {"command_line": "debug"},
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_the_guest_could_see_makes_another(qemu: str, change: str) -> None:
    changed: MachineConfig = replace(CONFIG, **CHANGES[change])  # type: ignore[arg-type]
    assert key(CONFIG, qemu, CONTENT).facts != key(changed, qemu, CONTENT).facts
    assert key(CONFIG, qemu, CONTENT).name != key(changed, qemu, CONTENT).name


@pytest.mark.parametrize("name", CONTENT)
def test_what_is_in_it_makes_another(qemu: str, name: str) -> None:
    changed = {**CONTENT, name: "sha256:" + "cd" * 32}
    assert key(CONFIG, qemu, CONTENT).facts != key(CONFIG, qemu, changed).facts


def test_another_qemu_makes_another(qemu: str) -> None:
    one = key(CONFIG, qemu, CONTENT)
    Path(qemu).write_text("upgraded")
    assert key(CONFIG, qemu, CONTENT) != one


def test_the_name_begins_with_the_images_digest(qemu: str) -> None:
    assert isinstance(key(CONFIG, qemu, CONTENT), Key)
    assert key(CONFIG, qemu, CONTENT).name.startswith("abababababab-")


@pytest.mark.parametrize(
    ("start", "memory", "how"),
    [
        (Start.SAVEABLE, Memory(30), "share=on"),
        (Start.CLONE, Memory(30), "share=off"),
        (Start.CLONE, Memory(30, readonly=True), "share=off,readonly=on,rom=off"),
    ],
)
def test_a_template_is_written_to_and_its_clones_write_to_themselves(start: Start, memory: Memory, how: str) -> None:
    clone = start is Start.CLONE
    opened = replace(FILES, memory=memory, state=31 if clone else None)
    argv = render("qemu", replace(CONFIG, start=start), opened, ENDS)
    assert after(argv, "-object") == [f"memory-backend-file,id=memory,size=1048576K,mem-path=/proc/self/fd/30,{how}"]
    assert ("-incoming" in argv) is clone
    assert ("-kernel" in argv) is not clone
    assert not [device for device in after(argv, "-device") if "balloon" in device or "virtio-mem" in device]


def test_a_template_is_saved_with_a_network_that_leads_nowhere() -> None:
    config = replace(CONFIG, network=Network.NAT, start=Start.SAVEABLE)
    saved = render("qemu", config, replace(FILES, memory=Memory(30)), ENDS)
    assert after(saved, "-netdev") == ["hubport,id=net,hubid=0"]


ABOUT = About(
    {"image": "x"},
    1 << 30,
    "2026-01-01",
    2.5,
    render_snapshot(Snapshot(CONFIG, "7.2.22", AgentState.IDLE)),
    {name: File(1, "d", "f") for name in ("memory", "state", "scratch")},
)


def test_what_is_written_is_read() -> None:
    assert parse_about(render_about(ABOUT)) == ABOUT


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_what_is_none_is_refused(value: object) -> None:
    with pytest.raises(Unusable):
        parse_about(json.dumps(value).encode())


@pytest.mark.parametrize("name", json.loads(render_about(ABOUT)))
def test_every_field_is_needed(name: str) -> None:
    fields = json.loads(render_about(ABOUT))
    for wrong in (None, [1], "other"):
        with pytest.raises(Unusable):
            parse_about(json.dumps({**fields, name: wrong}).encode()) if name != "made" else parse_about(b"{}")
    del fields[name]
    with pytest.raises(Unusable):
        parse_about(json.dumps(fields).encode())


@given(st.lists(st.tuples(st.integers(0, 40), st.binary(min_size=1, max_size=100)), max_size=5))
def test_a_digest_is_of_the_data_and_not_of_how_it_lies_on_disk(pieces: list[tuple[int, bytes]]) -> None:
    digests = []
    for sparse in (True, False):
        with tempfile.TemporaryFile() as file:
            if sparse:
                file.truncate(50 * 16384)
            else:
                file.write(bytes(50 * 16384))
            for at, piece in pieces:
                os.pwrite(file.fileno(), piece, at * 16384)
            file.flush()
            digests.append(digest_of(file.fileno()))
    assert digests[0] == digests[1]


def test_a_digest_does_not_depend_on_holes_within_a_piece() -> None:
    """Filesystems make holes of 4 KiB, and programs that copy make others."""
    digests = []
    for dense in (True, False):
        with tempfile.TemporaryFile() as file:
            if dense:
                file.write(bytes(65536))
            file.truncate(65536)
            for at in (0, 8192, 40960):
                os.pwrite(file.fileno(), b"data", at)
            digests.append(digest_of(file.fileno()))
    assert digests[0] == digests[1]
