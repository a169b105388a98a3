"""What a machine is made of, as values."""

from __future__ import annotations

from enum import StrEnum

from dayfly.values import dataclass


class Accelerator(StrEnum):
    """What runs the guest's instructions."""

    KVM = "kvm"
    TCG = "tcg"


class Boot(StrEnum):
    """Who is init in the guest: the agent (fastest), or the image's own system with the agent as a service of it."""

    AGENT = "agent"
    SYSTEM = "system"


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
    """A block device from an open file: `descriptor` is inherited by QEMU, which never sees a path."""

    role: str
    descriptor: int
    filesystem: str
    readonly: bool


@dataclass(frozen=True)
class Share:
    """A folder of the host, live in the guest, at `target`."""

    tag: str
    source: str
    target: str
    readonly: bool


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

    `kernel` and `initramfs` are descriptors of open files. `disks` appear in the guest in this order as vda, vdb, …
    `identity` is the machine's own name, at most 64 characters; `label` says what it was made from, for `dayfly ps`.
    With a `state`, the descriptor of a template's, the machine is restored from it and not booted: it needs no kernel.
    """

    identity: str
    label: str
    accelerator: Accelerator
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
        first = (self.kernel, self.initramfs) if self.state is None else (self.state,)
        memory = (self.backing.descriptor,) if self.backing else ()
        return (*first, *memory, *(disk.descriptor for disk in self.disks))


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
