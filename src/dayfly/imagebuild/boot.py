"""The parts that a machine boots with, from the tree of a root or of a kernel's packages."""

from __future__ import annotations

import lzma
import os
import re
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dayfly import process
from dayfly.errors import NotFound, Refused
from dayfly.guest.initramfs import modules_archive
from dayfly.imagebuild import kernel
from dayfly.imagebuild.modules import load_order, parse_index
from dayfly.imagebuild.root import RootArchive

_KERNEL_LIMIT = 128 * 1024**2
_MODULE_LIMIT = 64 * 1024**2
_LIST_LIMIT = 16 * 1024**2
_KERNEL = re.compile(r"boot/vmlinuz-([A-Za-z0-9][A-Za-z0-9._+~-]{0,127})")
_COPIED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+,-]*(/[A-Za-z0-9][A-Za-z0-9._+,-]*){0,16}")


@dataclass(frozen=True)
class BootParts:
    """A kernel, the modules that it starts with, and the folder with all its modules (below `usr/lib/modules`)."""

    version: str
    vmlinux: bytes
    boot_modules: bytes
    folder: Path


def take(archive: Path, folder: Path) -> BootParts:
    """Extract the newest kernel from an archive, and its modules to `folder`. Raises `NotFound` or `Refused`."""
    with tarfile.open(archive, "r:") as opened:
        root = RootArchive(opened)
        versions = sorted((match[1] for path in root.members if (match := _KERNEL.fullmatch(path))), key=natural)
        if not versions:
            raise NotFound("no package of the image contains a kernel", 'add [kernel] release = "bookworm" to the recipe')
        version = versions[-1]
        vmlinux = kernel.vmlinux(root.content(root.members[f"boot/vmlinuz-{version}"], _KERNEL_LIMIT))
        modules = folder / "lib/modules" / version
        _copy_modules(root, version, modules)
    process.find("depmod", "kmod")
    process.run(["depmod", "--basedir", str(folder), version])
    (folder / "usr").mkdir()
    (folder / "lib").rename(folder / "usr/lib")
    _settle_modes(folder)
    return BootParts(version, vmlinux, boot_modules(folder / "usr/lib/modules" / version), folder)


def _settle_modes(folder: Path) -> None:
    """Set modes that do not depend on the builder's umask."""
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def natural(version: str) -> list[tuple[int, str]]:
    """A key that sorts 6.1.0-9 before 6.1.0-10."""
    return [(int(number or 0), text) for number, text in re.findall(r"(\d*)(\D*)", version)]


def _copy_modules(root: RootArchive, version: str, target: Path) -> None:
    source = root.resolve(f"lib/modules/{version}")
    target.mkdir(parents=True)
    found = False
    for path, member in root.below(source):
        if not _COPIED.fullmatch(path):
            raise Refused(f"the kernel's modules contain a file {path!r}")
        if member.isdir():
            (target / path).mkdir(parents=True, exist_ok=True)
        content = root.open(member)
        if content is None:
            continue  # links to the sources and headers of the kernel
        found = True
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        with content, (target / path).open("xb") as file:
            while chunk := content.read(1024**2):
                file.write(chunk)
        os.utime(target / path, (member.mtime, member.mtime))
    if not found:
        raise NotFound(f"the modules of the kernel {version} are missing")


def boot_modules(folder: Path) -> bytes:
    """The archive of modules that a machine needs before its root is mounted. Raises `Refused` if the kernel lacks one."""
    return boot_modules_by(lambda path: _content(folder / path))


def boot_modules_by(read: Callable[[str], bytes], run: kernel.Run | None = None) -> bytes:
    """The same for modules that `read` reads; `run` runs the programs that unpack them. Raises as these two, too."""
    index = parse_index(_text(read, "modules.dep"), _text(read, "modules.builtin"))
    files = [(Path(path), read(path)) for path in load_order(index)]
    return modules_archive([(unpacked_name(path.name), unpacked(path.name, content, run)) for path, content in files])


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise Refused(f"{path.name} is missing from the kernel's modules") from None


def _text(read: Callable[[str], bytes], path: str) -> str:
    content = read(path)
    if len(content) > _LIST_LIMIT:
        raise Refused(f"{path} is larger than {_LIST_LIMIT} bytes")
    return content.decode(errors="replace")


def unpacked_name(name: str) -> str:
    """`ext4.ko` for `ext4.ko.xz`."""
    return name.partition(".ko")[0] + ".ko"


def unpacked(name: str, content: bytes, run: kernel.Run | None = None) -> bytes:
    """A module as the kernel loads it. Raises `Refused`, `ProgramMissing` or `ProgramFailed`."""
    try:
        if name.endswith(".xz"):
            content = lzma.LZMADecompressor(memlimit=_LIST_LIMIT * 8).decompress(content, _MODULE_LIMIT)
        elif name.endswith(".gz"):
            content = zlib.decompressobj(31).decompress(content, _MODULE_LIMIT)
        elif name.endswith(".zst"):
            unzstd = ["zstd", "--decompress", "--stdout", "--quiet"]
            content = kernel.filtered(unzstd, content, run) if run else kernel.filtered(unzstd, content)
    except (lzma.LZMAError, zlib.error, EOFError) as error:
        raise Refused(f"the module {name} cannot be unpacked: {error}") from error
    if not content.startswith(b"\x7fELF"):
        raise Refused(f"the module {name} is not an ELF file")
    return content
