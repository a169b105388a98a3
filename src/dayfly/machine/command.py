"""QEMU's command line, rendered from a `MachineConfig` and its open files. Pure.

Options: qemu-system-x86_64(1), QEMU 7.2 to 10. Every device has a fixed address on the bus, so all machines look the same.
"""

from __future__ import annotations

from dayfly.guest.boot import BootMode
from dayfly.machine.config import Accelerator, CpuModel, Disk, MachineConfig, Network, Share, Start
from dayfly.machine.resources import DiskFile, Endpoints, OpenResources

CHANNEL_PORT = "org.dayfly.agent"
NAME_PREFIX = "dayfly:"
EFI_FIRMWARE = "/usr/share/ovmf/OVMF.fd"
"""UEFI in one file with its variables, which a machine does not save. From Debian's package ovmf."""

# These make the generic kernel start quickly and print only a panic (with loglevel=0 not even that). With -no-reboot, `panic=-1`
# ends QEMU at a panic. The console is virtio's: probing a serial port costs a tenth of a cold start. Until its driver is loaded,
# the serial port is written to without one; earlyprintk comes after the log level, which holds from there on.
_KERNEL_WORDS = (
    "quiet loglevel=1 earlyprintk=serial,ttyS0,115200 console=hvc0 8250.nr_uarts=0 panic=-1 "
    "no_timer_check nokaslr audit=0 apparmor=0 "
    "cryptomgr.notests rcupdate.rcu_expedited=1 nowatchdog nmi_watchdog=0 "
    "initcall_blacklist=init_kprobe_trace,load_system_certificate_list,crypto_kdf108_init"
)
# The features of each level, the same under KVM and TCG. QEMU's models of later CPUs have features that TCG lacks, or that one
# maker's CPUs lack under KVM. `enforce`: a missing feature is an error, not a program's illegal instruction later.
# `level` must include the leaf with the size of AVX's registers, or the kernel disables AVX.
_V2 = "Nehalem,+aes,+pclmulqdq,+rdrand"
_V3 = f"{_V2},+avx,+avx2,+bmi1,+bmi2,+f16c,+fma,+abm,+movbe,+xsave,+xsaveopt,level=13"
CPUS = {
    CpuModel.V2: f"{_V2},enforce",
    CpuModel.V3: f"{_V3},enforce",
    # For emulation. ERMS and FSRM say that `rep movsb` is fast: by it, the kernel's zero-fill takes eight times as long there.
    CpuModel.MAX: "max,-erms,-fsrm",
    CpuModel.HOST: "host",
    CpuModel.HOST_REDUCED: "host,-arch-capabilities",
}
"""QEMU's option for each CPU model."""
# Translated code, in MiB: without a limit it grows to 1 GiB in addition to the guest's memory, which a batch job does not have.
_ACCELERATORS = {Accelerator.TCG: "tcg,thread=multi,tb-size=128", Accelerator.KVM: "kvm"}
_FIRST_DISK_SLOT, _CHANNEL_SLOT, _NETWORK_SLOT, _FIRST_SHARE_SLOT = 0x02, 0x08, 0x09, 0x0A
MOST_SHARES = 0x1F - _FIRST_SHARE_SLOT  # the slot after the last belongs to q35's own devices


def render(qemu: str, config: MachineConfig, resources: OpenResources, ends: Endpoints) -> list[str]:
    """The argv that starts the machine. It refers to the descriptors in `resources` and `ends`, which QEMU must inherit."""
    return [
        qemu,
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-name", f"guest={escape(f'{NAME_PREFIX}{config.identity}:{config.lifetime}:{config.label}')}"),
        *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
        *("-machine", "q35,usb=off,vmport=off,sata=off,smbus=off,hpet=off,memory-backend=memory"),
        *("-accel", _ACCELERATORS[config.accelerator]),
        *("-cpu", CPUS[config.cpu]),
        *("-smp", str(config.shape.cpus)),
        *("-m", f"{config.shape.memory // 1024}K"),
        *("-object", _memory(config, resources)),
        *(("-incoming", "defer") if config.start is Start.CLONE else _kernel(config, resources)),
        *("-device", "vmgenid,guid=auto"),  # new in each machine: it makes a clone's kernel reseed its random state
        *_sockets(ends),
        *_disks(config.disks, resources.disks),
        *_network(config),
        *_shares(config.shares),
    ]


def _memory(config: MachineConfig, resources: OpenResources) -> str:
    size = f"id=memory,size={config.shape.memory // 1024}K"
    memory = resources.memory
    if memory is None:
        return f"memory-backend-ram,{size}"
    copied = "share=off,readonly=on,rom=off" if memory.readonly else "share=off"
    how = copied if config.start is Start.CLONE else "share=on"
    return f"memory-backend-file,{size},mem-path=/proc/self/fd/{memory.descriptor},{how}"


def _kernel(config: MachineConfig, resources: OpenResources) -> list[str]:
    if config.boot.by_firmware:
        return ["-bios", EFI_FIRMWARE] if config.boot is BootMode.EFI else []  # QEMU's own is SeaBIOS
    return [
        *("-kernel", f"/proc/self/fd/{resources.kernel}"),
        *("-initrd", f"/proc/self/fd/{resources.initramfs}"),
        *("-append", kernel_command_line(config)),
    ]


def kernel_command_line(config: MachineConfig) -> str:
    """The kernel command line: Dayfly's words, the image's, and those of the guest protocol
    (docs/reference/guest-protocol.md).
    """
    disks = [f"dayfly.{disk.role}=vd{chr(ord('a') + index)}:{disk.filesystem}" for index, disk in enumerate(config.disks)]
    reliable = ["tsc=reliable"] if config.accelerator is Accelerator.TCG else []
    words = [_KERNEL_WORDS, *reliable, config.command_line, *disks, f"dayfly.boot={config.boot}"]
    return " ".join(word for word in words if word)


def escape(text: str) -> str:
    """A value inside one of QEMU's comma-separated options: commas are doubled."""
    return text.replace(",", ",,")


def _sockets(ends: Endpoints) -> list[str]:
    return [
        *("-chardev", f"socket,id=monitor,fd={ends.monitor}", "-mon", "chardev=monitor,mode=control"),
        *("-chardev", f"socket,id=events,fd={ends.events}", "-mon", "chardev=events,mode=control"),
        *("-chardev", f"file,id=console,path=/proc/self/fd/{ends.console},mux=on", "-device", "isa-serial,chardev=console"),
        *("-device", f"virtio-serial-pci,id=serial,max_ports=3,addr={_CHANNEL_SLOT:#x}"),
        *("-device", "virtconsole,bus=serial.0,nr=2,chardev=console"),
        *("-chardev", f"socket,id=channel,fd={ends.channel}"),
        *("-device", f"virtserialport,id=agent,bus=serial.0,nr=1,chardev=channel,name={CHANNEL_PORT}"),
    ]


def _disks(disks: tuple[Disk, ...], opened: tuple[DiskFile, ...]) -> list[str]:
    argv: list[str] = []
    for index, (disk, file) in enumerate(zip(disks, opened, strict=True)):
        # A full disk of the host stops the machine, so that the user gets a message, and the job no I/O errors.
        how = "readonly=on" if disk.readonly else "cache=unsafe,discard=unmap,detect-zeroes=unmap,werror=stop"
        argv += ["-drive", f"if=none,id={disk.role},{_file(file)},{how}"]
        argv += ["-device", f"virtio-blk-pci,drive={disk.role},serial={disk.role},addr={_FIRST_DISK_SLOT + index:#x}"]
    return argv


def _file(disk: DiskFile) -> str:
    """An overlay qcow2 does not name its backing file: QEMU gets both."""
    if disk.base is None:
        return f"file=/proc/self/fd/{disk.descriptor},format=raw,file.locking=off"
    files = {"file": disk.descriptor, "backing.file": disk.base}
    named = [f"{name}.driver=file,{name}.filename=/proc/self/fd/{file},{name}.locking=off" for name, file in files.items()]
    return f"driver=qcow2,backing.driver=qcow2,{','.join(named)},backing.file.read-only=on,backing.read-only=on"


def _network(config: MachineConfig) -> list[str]:
    if config.network is Network.NONE:
        return []
    device = f"virtio-net-pci,netdev=net,mac={config.mac},romfile=,addr={_NETWORK_SLOT:#x}"
    # A machine saved with user-mode networking could only be restored with it; a bare hub port fits every network.
    return ["-netdev", "hubport,id=net,hubid=0" if config.start is Start.SAVEABLE else "user,id=net,ipv6=off", "-device", device]


def _shares(shares: tuple[Share, ...]) -> list[str]:
    argv: list[str] = []
    for index, share in enumerate(shares):
        how = ",readonly=on" if share.readonly else ""
        # security_model=none: files have the user's owner and rights on the host; QEMU runs as that user and has no other rights.
        folder = f"local,id={share.tag},path={escape(share.source)},security_model=none,multidevs=remap{how}"
        device = f"virtio-9p-pci,fsdev={share.tag},mount_tag={share.tag},addr={_FIRST_SHARE_SLOT + index:#x}"
        argv += ["-fsdev", folder, "-device", device]
    return argv
