"""The configuration of a machine, as values."""

from __future__ import annotations

from enum import StrEnum

from dayfly.guest.boot import BootMode
from dayfly.process import Lifetime
from dayfly.settings import CPU_MODELS
from dayfly.values import dataclass


class Accelerator(StrEnum):
    """What runs the guest's CPU."""

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
    """The host's CPU without IA32_ARCH_CAPABILITIES, for hosts whose hypervisor refuses that to KVM."""


CPU_CHOICES = tuple(map(CpuModel, CPU_MODELS))
"""The CPU models that a job or the settings may request."""


@dataclass(frozen=True)
class Processor:
    """How a host runs a machine: the accelerator, and the guest's CPU."""

    accelerator: Accelerator
    cpu: CpuModel


BOOT_CHOICES = (BootMode.AGENT, BootMode.SYSTEM)
"""The boot modes that a job may choose: a whole disk is booted as its image says."""


class Network(StrEnum):
    """The guest's network. NAT is user-mode networking: outgoing connections only."""

    NONE = "none"
    NAT = "nat"


@dataclass(frozen=True)
class Shape:
    """CPUs, and memory in bytes."""

    cpus: int
    memory: int


@dataclass(frozen=True)
class Disk:
    """A block device. An `overlay` is a qcow2 of the machine over a read-only qcow2."""

    role: str
    filesystem: str
    readonly: bool
    overlay: bool = False


@dataclass(frozen=True)
class Share:
    """A folder of the host, live in the guest, at `target`."""

    tag: str
    source: str
    target: str
    readonly: bool


class Start(StrEnum):
    """How a machine starts.

    A `SAVEABLE` one boots with its memory in a shared file, so that it can be saved. A `CLONE` is restored from a snapshot,
    and gets its own copy of each page of memory that it writes to.
    """

    BOOT = "boot"
    SAVEABLE = "saveable"
    CLONE = "clone"


@dataclass(frozen=True)
class MachineConfig:
    """The configuration of a machine, without its open files: see `dayfly.machine.resources`.

    `identity` is the machine's own name, at most 64 characters; `label` is its image, for `dayfly ps`. `disks`
    appear in the guest in this order as vda, vdb, …

    A machine whose `lifetime` is OWNED ends with the process of its caller. A DETACHED one outlives the caller: it belongs to a
    keeper, a process that does nothing else, and is listed in `dayfly.machine.instances`.
    """

    identity: str
    label: str
    accelerator: Accelerator
    cpu: CpuModel
    shape: Shape
    boot: BootMode
    command_line: str
    disks: tuple[Disk, ...]
    shares: tuple[Share, ...]
    network: Network
    mac: str
    start: Start = Start.BOOT
    lifetime: Lifetime = Lifetime.OWNED
