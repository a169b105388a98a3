from dataclasses import replace

from dayfly.guest.boot import BootMode
from dayfly.machine.command import kernel_command_line, render
from dayfly.machine.config import Accelerator, CpuModel, Disk, MachineConfig, Network, Shape, Share
from dayfly.machine.processes import parse_command
from dayfly.machine.resources import DiskFile, Endpoints, OpenResources
from dayfly.process import Lifetime

CONFIG = MachineConfig(
    identity="0123456789",
    label="debian:12",
    accelerator=Accelerator.TCG,
    cpu=CpuModel.V3,
    shape=Shape(2, 1 << 30),
    boot=BootMode.AGENT,
    command_line="",
    disks=(Disk("root", "erofs", readonly=True), Disk("scratch", "ext4", readonly=False)),
    shares=(),
    network=Network.NONE,
    mac="52:54:01:23:45:67",
)
FILES = OpenResources((DiskFile(12), DiskFile(13)), kernel=10, initramfs=11)
ENDS = Endpoints(20, 21, 22, 23)


def after(argv: list[str], option: str) -> list[str]:
    return [argv[at + 1] for at, word in enumerate(argv[:-1]) if word == option]


def test_as_few_devices_as_the_job_needs() -> None:
    argv = render("qemu", CONFIG, FILES, ENDS)
    assert argv[1:4] == ["-nodefaults", "-no-user-config", "-no-reboot"]
    assert [device.partition(",")[0] for device in after(argv, "-device")] == [
        "vmgenid",
        "isa-serial",
        "virtio-serial-pci",
        "virtconsole",
        "virtserialport",
        "virtio-blk-pci",
        "virtio-blk-pci",
    ]
    assert "-netdev" not in argv
    assert "-fsdev" not in argv
    assert after(argv, "-sandbox") == ["on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]


def test_memory_and_cpus_are_the_shapes() -> None:
    argv = render("qemu", CONFIG, FILES, ENDS)
    assert after(argv, "-m") == ["1048576K"]
    assert after(argv, "-smp") == ["2"]


def test_only_the_scratch_disk_can_be_written() -> None:
    drives = after(render("qemu", CONFIG, FILES, ENDS), "-drive")
    assert ["readonly=on" in drive for drive in drives] == [True, False]
    assert "werror=stop" in drives[1]


def test_the_kernel_is_told_where_everything_is() -> None:
    words = kernel_command_line(CONFIG).split()
    assert {"dayfly.root=vda:erofs", "dayfly.scratch=vdb:ext4", "dayfly.boot=agent", "panic=-1"} <= set(words)
    assert "tsc=reliable" not in kernel_command_line(replace(CONFIG, accelerator=Accelerator.KVM))
    assert kernel_command_line(replace(CONFIG, command_line="mitigations=off")).count("mitigations=off") == 1


def test_commas_in_a_path_are_not_options() -> None:
    config = replace(CONFIG, shares=(Share("share0", "/data,readonly=off/x", "/data", readonly=True),))
    (folder,) = after(render("qemu", config, FILES, ENDS), "-fsdev")
    assert "path=/data,,readonly=off/x,security_model=none" in folder
    assert folder.endswith(",readonly=on")


def test_nat_lets_nobody_in() -> None:
    argv = render("qemu", replace(CONFIG, network=Network.NAT), FILES, ENDS)
    assert after(argv, "-netdev") == ["user,id=net,ipv6=off"]
    assert any("mac=52:54:01:23:45:67" in device for device in after(argv, "-device"))


def test_no_two_devices_in_one_slot() -> None:
    shares = tuple(Share(f"share{number}", "/x", f"/x{number}", readonly=False) for number in range(21))
    argv = render("qemu", replace(CONFIG, shares=shares, network=Network.NAT), FILES, ENDS)
    slots = [word for device in after(argv, "-device") for word in device.split(",") if word.startswith("addr=")]
    assert len(slots) == len(set(slots)) == 25
    assert max(int(slot[5:], 16) for slot in slots) < 0x1F


def test_a_machine_is_recognised_by_its_command() -> None:
    argv = render("/usr/bin/qemu-system-x86_64", replace(CONFIG, label="odd,name:1"), FILES, ENDS)
    assert parse_command(argv) == ("0123456789", "owned", "odd,name:1", 2, 1 << 30, "tcg", "x86-64-v3")


def test_a_machine_says_its_lifetime() -> None:
    argv = render("qemu", replace(CONFIG, label="owned:1", lifetime=Lifetime.DETACHED), FILES, ENDS)
    read = parse_command(argv)
    assert read is not None
    assert read[:3] == ("0123456789", "detached", "owned:1")


def test_other_processes_are_no_machines() -> None:
    assert parse_command(["vi", "guest=dayfly:0123456789:x"]) is None
    assert parse_command([]) is None
    assert parse_command(["qemu", "-name", "guest=other:0123456789:x", "-m", "1K", "-smp", "1"]) is None


def test_a_whole_disk_is_laid_under_what_the_machine_writes() -> None:
    disks = (Disk("root", "qcow2", readonly=False, overlay=True), Disk("seed", "iso9660", readonly=True))
    config = replace(CONFIG, boot=BootMode.BIOS, disks=disks)
    opened = OpenResources((DiskFile(12, base=14), DiskFile(13)))
    argv = render("qemu", config, opened, ENDS)
    assert not {"-kernel", "-initrd", "-append", "-bios"} & set(argv)
    root, seed = after(argv, "-drive")
    assert "driver=qcow2,backing.driver=qcow2," in root
    assert "file.filename=/proc/self/fd/12," in root
    assert "backing.file.filename=/proc/self/fd/14," in root
    assert "backing.read-only=on" in root
    assert "readonly=on" in seed
    assert set(opened.descriptors()) == {12, 13, 14}
    assert after(render("qemu", replace(config, boot=BootMode.EFI), opened, ENDS), "-bios") == ["/usr/share/ovmf/OVMF.fd"]
