"""The open files that a machine is made of. QEMU inherits them and never sees a path."""

from __future__ import annotations

import os

from dayfly.values import dataclass

TYPE_CHECKING = False  # typing's own costs an import at every start, and checkers know the name
if TYPE_CHECKING:
    from types import TracebackType


@dataclass(frozen=True)
class DiskFile:
    """The open file of a disk of the configuration; of an overlay, also the open qcow2 that it is laid over."""

    descriptor: int
    base: int | None = None


@dataclass(frozen=True)
class Memory:
    """The open file behind a machine's memory. `readonly`: QEMU opens it for reading only, as it can since 8.2."""

    descriptor: int
    readonly: bool = False


@dataclass(frozen=True)
class OpenResources:
    """What a process holds open for one machine, in the order of its configuration's disks.

    Whoever makes one owns it, and closes it once QEMU runs or will not: `with` does. A machine that boots from a kernel has
    `kernel` and `initramfs`; a clone has the `state` of its snapshot instead.
    """

    disks: tuple[DiskFile, ...]
    kernel: int | None = None
    initramfs: int | None = None
    memory: Memory | None = None
    state: int | None = None

    def descriptors(self) -> tuple[int, ...]:
        """All of them."""
        memory = self.memory.descriptor if self.memory else None
        bases = (disk.base for disk in self.disks)
        every = (self.kernel, self.initramfs, self.state, memory, *(disk.descriptor for disk in self.disks), *bases)
        return tuple(descriptor for descriptor in every if descriptor is not None)

    def __enter__(self) -> OpenResources:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for descriptor in self.descriptors():
            os.close(descriptor)


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
