"""What a machine is made of, as values."""

from __future__ import annotations

from enum import StrEnum

from dayfly.settings import CPU_MODELS
from dayfly.values import dataclass


class Accelerator(StrEnum):
    """What runs the guest's instructions."""

    KVM = "kvm"
    TCG = "tcg"


class CpuModel(StrEnum):
    """The CPU that a guest sees. The levels are those of the psABI of x86-64, which compilers and distributions build for.

    `AUTO` leaves the choice to the host; a machine has one of the others.
    """

    AUTO = "auto"
    V2 = "x86-64-v2"
    V3 = "x86-64-v3"
    MAX = "max"
    HOST = "host"
    HOST_REDUCED = "host,-arch-capabilities"
    """The host's, as far as a hypervisor that refuses IA32_ARCH_CAPABILITIES to KVM lets a guest have it."""


CPU_CHOICES = tuple(map(CpuModel, CPU_MODELS))
"""What a job or the settings may ask for."""


@dataclass(frozen=True)
class Way:
    """How a host runs a machine: by what, and with which CPU for the guest."""

    accelerator: Accelerator
    cpu: CpuModel


class Boot(StrEnum):
    """Who is init in the guest: the agent (fastest), or the image's own system with the agent as a service of it.

    Or firmware boots a whole disk, whose cloud-init starts the agent.
    """

    AGENT = "agent"
    SYSTEM = "system"
    BIOS = "bios"
    EFI = "efi"

    @property
    def by_firmware(self) -> bool:
        """Whether the machine has a disk with a boot loader on it, and neither kernel nor initramfs of ours."""
        return self in (Boot.BIOS, Boot.EFI)


CHOICES = (Boot.AGENT, Boot.SYSTEM)
"""What a job may choose from: a disk is booted as its image says."""


class Network(StrEnum):
    """What the guest sees of the network. NAT is user-mode networking: connections out, none in."""

    NONE = "none"
    NAT = "nat"


@dataclass(frozen=True)
class Shape:
    """CPUs, and memory in bytes."""

    cpus: int
    memory: int


@dataclass(frozen=True)
class Disk:
    """A block device from an open file: `descriptor` is inherited by QEMU, which never sees a path.

    With a `base`, an open qcow2 that is not written to, it is a qcow2 that is laid over that.
    """

    role: str
    descriptor: int
    filesystem: str
    readonly: bool
    base: int | None = None


@dataclass(frozen=True)
class Share:
    """A folder of the host, live in the guest, at `target`."""

    tag: str
    source: str
    target: str
    readonly: bool


@dataclass(frozen=True)
class Link:
    """A symbolic link of the host on the way to a folder that is shared: the guest gets one like it."""

    path: str
    target: str


@dataclass(frozen=True)
class Backing:
    """The open file behind a machine's memory: written to while a template is made, copied on write by its clones.

    `readonly`: QEMU opens the file for reading only, as it can since 8.2.
    """

    descriptor: int
    shared: bool
    readonly: bool = False


@dataclass(frozen=True)
class MachineSpec:
    """Everything QEMU is told about a machine.

    `kernel` and `initramfs` are descriptors of open files; a machine that firmware boots has none. `disks` appear in the guest in
    this order as vda, vdb, …
    `identity` is the machine's own name, at most 64 characters; `label` says what it was made from, for `dayfly ps`.
    With a `state`, the descriptor of a template's, the machine is restored from it and not booted: it needs no kernel.
    """

    identity: str
    label: str
    accelerator: Accelerator
    cpu: CpuModel
    shape: Shape
    boot: Boot
    kernel: int
    initramfs: int
    command_line: str
    disks: tuple[Disk, ...]
    shares: tuple[Share, ...]
    network: Network
    mac: str
    backing: Backing | None = None
    state: int | None = None

    def descriptors(self) -> tuple[int, ...]:
        """The open files that QEMU inherits for this machine's content."""
        kernel = () if self.boot.by_firmware else (self.kernel, self.initramfs)
        first = kernel if self.state is None else (self.state,)
        memory = (self.backing.descriptor,) if self.backing else ()
        bases = (disk.base for disk in self.disks if disk.base is not None)
        return (*first, *memory, *(disk.descriptor for disk in self.disks), *bases)


@dataclass(frozen=True)
class Endpoints:
    """QEMU's ends of what it inherits: the sockets of the agent's channel and of two monitors, the console's pipe.

    On `monitor` it is told what to do while it runs, on `events` it tells.
    """

    channel: int
    monitor: int
    events: int
    console: int

    def descriptors(self) -> tuple[int, ...]:
        """All of them."""
        return (self.channel, self.monitor, self.events, self.console)
