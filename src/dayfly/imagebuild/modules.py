"""Which kernel modules a machine needs before its root is mounted, and in which order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dayfly.errors import Refused

NEEDED = (
    *("crc32c_generic", "crc32c_intel"),  # requested by name when ext4 and others start; not in modules.dep
    *("virtio_pci", "virtio_blk", "virtio_console", "virtio_net"),
    *("erofs", "squashfs", "overlay", "ext4", "9p", "9pnet_virtio"),
)
"""The modules that the agent needs at its start, for any root filesystem of an image."""

OPTIONAL = frozenset({"crc32c_generic", "crc32c_intel", "squashfs", "virtio_net"})
_SUFFIXES = (".ko", ".ko.xz", ".ko.zst", ".ko.gz")


@dataclass(frozen=True)
class ModuleIndex:
    """depmod's output for a kernel: each module's file (relative to the folder of modules) and its dependencies."""

    files: Mapping[str, str]
    dependencies: Mapping[str, tuple[str, ...]]
    built_in: frozenset[str]


def module_name(path: str) -> str:
    """`virtio_blk` for `kernel/drivers/block/virtio-blk.ko.xz`."""
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def parse_index(dependencies: str, built_in: str) -> ModuleIndex:
    """Read modules.dep and modules.builtin. Raises `Refused`."""
    files: dict[str, str] = {}
    needs: dict[str, tuple[str, ...]] = {}
    for line in dependencies.splitlines():
        path, colon, rest = line.partition(":")
        paths = [path, *rest.split()]
        if not colon or not all(_is_safe(one) for one in paths):
            raise Refused(f"modules.dep has a malformed line: {line[:100]!r}")
        files[module_name(path)] = path
        needs[module_name(path)] = tuple(module_name(one) for one in rest.split())
    return ModuleIndex(files, needs, frozenset(module_name(line) for line in built_in.split()))


def _is_safe(path: str) -> bool:
    return path.endswith(_SUFFIXES) and not path.startswith("/") and ".." not in path.split("/")


def load_order(index: ModuleIndex, needed: Iterable[str] = NEEDED, optional: frozenset[str] = OPTIONAL) -> list[str]:
    """The files of the required modules and their dependencies, dependencies first. Raises `Refused` if one is missing."""
    order: dict[str, None] = {}
    for name in needed:
        if name not in index.files and name not in index.built_in and name not in optional:
            hint = "Debian's cloud kernels lack some modules; linux-image-amd64 has all of them"
            raise Refused(f"the kernel has no module {name}, which every machine needs", hint)
        _visit(index, name, order, ())
    return [index.files[name] for name in order]


def _visit(index: ModuleIndex, name: str, order: dict[str, None], above: tuple[str, ...]) -> None:
    if name in order or name not in index.files:
        return
    if name in above:
        raise Refused(f"modules have a circular dependency: {' '.join((*above, name))}")
    for dependency in index.dependencies[name]:
        _visit(index, dependency, order, (*above, name))
    order[name] = None
