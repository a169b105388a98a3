"""The open files of a machine. QEMU inherits them and never gets a path."""

from __future__ import annotations

import os

from dayfly.values import dataclass

TYPE_CHECKING = False  # typing's own costs an import at every start, and checkers know the name
if TYPE_CHECKING:
    from types import TracebackType


@dataclass(frozen=True)
class DiskFile:
    """The open file of a disk of the configuration; for an overlay, also the open backing qcow2."""

    descriptor: int
    base: int | None = None


@dataclass(frozen=True)
class Memory:
    """The open file of a machine's memory. `readonly`: QEMU opens it read-only, which it supports since 8.2."""

    descriptor: int
    readonly: bool = False


@dataclass(frozen=True)
class OpenResources:
    """The open files of one machine, in the order of its configuration's disks.

    The creator owns it, and closes it once QEMU runs or has failed: `with` does so. A machine that boots from a kernel has
    `kernel` and `initramfs`; a clone has the `state` of its snapshot instead.
    """

    disks: tuple[DiskFile, ...]
    kernel: int | None = None
    initramfs: int | None = None
    memory: Memory | None = None
    state: int | None = None

    def descriptors(self) -> tuple[int, ...]:
        """All descriptors."""
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
    """QEMU's ends of its connections: the sockets of the agent's channel and of two monitors, the console's pipe.

    `monitor` is for commands while it runs, `events` for its events.
    """

    channel: int
    monitor: int
    events: int
    console: int

    def descriptors(self) -> tuple[int, ...]:
        """All descriptors."""
        return (self.channel, self.monitor, self.events, self.console)
