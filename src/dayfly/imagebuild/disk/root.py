"""The root filesystem and the kernel on a disk, found without mounting anything."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from dayfly.errors import Refused
from dayfly.image.inspection.texts import shown
from dayfly.imagebuild import boot, kernel
from dayfly.imagebuild.boot import natural
from dayfly.imagebuild.containerimage import archive
from dayfly.imagebuild.containerimage.tree import Kind, Limits, Node, Tree
from dayfly.imagebuild.disk.ext import Filesystem, is_ext
from dayfly.imagebuild.disk.partitions import EFI, Partition, Table
from dayfly.imagebuild.disk.probe import name_of

_RELEASES = ("etc/os-release", "usr/lib/os-release")
_SYSTEMD = ("usr/lib/systemd/systemd", "lib/systemd/systemd")
_KERNEL = re.compile(r"vmlinuz-([A-Za-z0-9][A-Za-z0-9._+~-]{0,127})")
_KERNEL_LIMIT = 128 * 1024**2
_MODULE_LIMIT = 64 * 1024**2
_TEXT_LIMIT = 1024**2

Recover = Callable[[Partition], None]
"""Replays the journal of a filesystem that was not unmounted, in our copy of the disk."""


class NotReadable(Refused):
    """A disk's files cannot be extracted; the disk can still be booted whole."""


@dataclass(frozen=True)
class OwnKernel:
    """The disk's kernel, and its modules."""

    version: str
    vmlinux: bytes
    boot_modules: bytes


@dataclass(frozen=True)
class System:
    """An operating system on a disk: the files of its root, and the folders with kernels. `file` is the open disk."""

    file: int
    tree: Tree
    kernels: tuple[Node, ...]

    def text(self, *paths: str) -> str:
        """The content of the first of these small files that is not empty."""
        texts = (archive.content(self.tree.find(path), [self.file], _TEXT_LIMIT).decode(errors="replace") for path in paths)
        return next((text for text in texts if text), "")

    @property
    def os_release(self) -> str:
        """os-release(5)."""
        return self.text(*_RELEASES)

    @property
    def has_systemd(self) -> bool:
        """Whether its init is systemd, which starts Dayfly's agent as a service."""
        return self.tree.find("sbin/init") is not None and any(self.tree.find(path) is not None for path in _SYSTEMD)

    def mounts(self) -> list[str]:
        """The mount points in fstab(5) for other filesystems of the disk, which a machine does not have."""
        found = [line.split() for line in self.text("etc/fstab").splitlines() if not line.lstrip().startswith("#")]
        points = [fields[1] for fields in found if len(fields) >= 3 and fields[2] not in ("swap", "tmpfs", "proc", "sysfs")]
        return [shown(point, 200) for point in points if point.startswith("/") and point != "/" and not point.startswith("/boot")]

    def kernel(self, run: kernel.Run) -> OwnKernel:
        """The newest kernel with its modules; `run` runs the programs that unpack it.

        Raises `Refused` if there is none that a machine can use.
        """
        found = sorted(self._versions(), key=lambda pair: natural(pair[0]))
        if not found:
            raise Refused("there is no kernel with its modules on the disk")
        version, node = found[-1]
        vmlinux = kernel.vmlinux(archive.content(node, [self.file], _KERNEL_LIMIT), run)
        return OwnKernel(version, vmlinux, boot.boot_modules_by(lambda path: self._module(version, path), run))

    def _versions(self) -> Iterator[tuple[str, Node]]:
        for folder in self.kernels:
            for name, node in folder.children.items():
                match = _KERNEL.fullmatch(name)
                if match and node.kind is Kind.FILE and self.tree.find(f"lib/modules/{match[1]}/modules.dep") is not None:
                    yield match[1], node

    def _module(self, version: str, path: str) -> bytes:
        content = archive.content(self.tree.find(f"lib/modules/{version}/{path}"), [self.file], _MODULE_LIMIT)
        if not content:
            raise Refused(f"{path} is missing from the kernel's modules")
        return content


def find(file: int, table: Table, limits: Limits, recover: Recover) -> System:
    """Find the only filesystem with an operating system.

    Raises `NotReadable` if there is none that can be read, or there are several, and `Refused` if it is damaged.
    """
    roots: list[Tree] = []
    boots: list[Node] = []
    for partition in table.partitions:
        if not is_ext(file, partition.start):
            continue
        tree = _files(file, partition, limits, recover)
        if any(tree.find(path) is not None for path in _RELEASES):
            roots.append(tree)
        else:
            boots.append(tree.root)
    if len(roots) != 1:
        what = f"it has {len(roots)} operating systems" if roots else _why_none(file, table.partitions)
        raise NotReadable(f"the disk's files cannot be extracted: {what}")
    below = roots[0].root.children.get("boot")
    return System(file, roots[0], (*([below] if below else []), *boots))


def _files(file: int, partition: Partition, limits: Limits, recover: Recover) -> Tree:
    filesystem = Filesystem(file, partition.start, partition.size, limits)
    if filesystem.needs_recovery:
        recover(partition)
        filesystem = Filesystem(file, partition.start, partition.size, limits)
        if filesystem.needs_recovery:
            raise Refused("the filesystem was not unmounted, and its journal cannot be replayed")
    tree = Tree(limits, 0)
    tree.root = filesystem.tree()
    return tree


def _why_none(file: int, partitions: Sequence[Partition]) -> str:
    kinds = [f"{name_of(file, one)} on partition {one.number}" for one in partitions if one.type != EFI]
    return f"it has no ext filesystem with an operating system (found: {', '.join(kinds[:8]) or 'nothing'})"
