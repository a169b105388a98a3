"""The initramfs: cpio archives in the `newc` format, written without external programs.

The kernel unpacks concatenated archives, so a machine gets `agent_archive(...)` and then `modules_archive(...)`: the second is
made once for each kernel, the first once for each agent. Their content is described in docs/reference/guest-protocol.md, "The
initramfs".
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

# The kernel reads an archive in words of 4 bytes and skips zeros between archives; 512 is what cpio itself pads to.
_ALIGNMENT = 4
_BLOCK = 512
_TRAILER = "TRAILER!!!"
_MOST = 0xFFFFFFFF

# What scripts/sign-file appends: the signature, struct module_signature (its last field is the length), and this line.
_SIGNATURE_MAGIC = b"~Module signature appended~\n"
_SIGNATURE_INFO = struct.Struct(">8xI")

MODULES_FOLDER = "modules"
LOAD_LIST = "load"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of an archive. `mode` includes the file's type; a directory must come before its content."""

    path: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def directory(path: str) -> Entry:
    """A folder."""
    return Entry(path, stat.S_IFDIR | 0o755)


def regular(path: str, data: bytes, *, mode: int = 0o644) -> Entry:
    """A file."""
    return Entry(path, stat.S_IFREG | mode, data)


def character_device(path: str, major: int, minor: int, *, mode: int = 0o600) -> Entry:
    """A device node."""
    return Entry(path, stat.S_IFCHR | mode, device=(major, minor))


def archive(entries: Sequence[Entry]) -> bytes:
    """A `newc` archive, the same bytes for the same entries: files are root's, of the epoch, inodes count from 1."""
    members = (_member(number, entry) for number, entry in enumerate(entries, start=1))
    parts = b"".join(chain.from_iterable((*members, _member(0, Entry(_TRAILER, 0)))))
    return parts + _padding(len(parts), _BLOCK)


def modules_archive(modules: Sequence[tuple[str, bytes]]) -> bytes:
    """`/modules` with the kernel modules, given as (file name, content) in load order."""
    names = [name for name, _ in modules]
    for name in names:
        if not name or name == LOAD_LIST or set(name) & set("/\n\0"):
            raise ValueError(f"not the file name of a module: {name!r}")
    if len(set(names)) != len(names):
        raise ValueError("a module is given twice")
    return archive(
        (
            directory(MODULES_FOLDER),
            regular(f"{MODULES_FOLDER}/{LOAD_LIST}", "".join(f"{name}\n" for name in names).encode()),
            *(regular(f"{MODULES_FOLDER}/{name}", content) for name, content in modules),
        )
    )


def without_signature(module: bytes) -> bytes:
    """A kernel module without the signature that may be appended to it.

    Checking it costs 10 to 20 ms for each module of a cold start in software emulation, and proves nothing here: kernel
    and modules come from the same image. A kernel that enforces signatures (CONFIG_MODULE_SIG_FORCE) needs them.
    """
    if not module.endswith(_SIGNATURE_MAGIC):
        return module
    end = len(module) - len(_SIGNATURE_MAGIC) - _SIGNATURE_INFO.size
    if end < 0:
        raise ValueError("a module's signature is truncated")
    (length,) = _SIGNATURE_INFO.unpack_from(module, end)
    if length > end:
        raise ValueError("a module's signature is longer than the module")
    return module[: end - length]


def agent_archive(agent: bytes) -> bytes:
    """`/init`, and what it needs before it has mounted anything."""
    return archive(
        (
            *(directory(path) for path in ("dev", "proc", "sys")),
            character_device("dev/console", 5, 1),
            regular("init", agent, mode=0o755),
        )
    )


def member(content: bytes, path: str) -> bytes:
    """A file in an archive as `archive` writes it. Raises `KeyError`."""
    at = 0
    while at + 110 <= len(content):
        size, length = int(content[at + 54 : at + 62], 16), int(content[at + 94 : at + 102], 16)
        name = content[at + 110 : at + 110 + length - 1].decode("utf-8", "surrogateescape")
        start = at + 110 + length + -(110 + length) % _ALIGNMENT
        if name == path:
            return content[start : start + size]
        if name == _TRAILER:
            break
        at = start + size + -size % _ALIGNMENT
    raise KeyError(path)


def _member(number: int, entry: Entry) -> Iterable[bytes]:
    name = entry.path.encode("utf-8", "surrogateescape")
    if not name or b"\0" in name or name.startswith(b"/"):
        raise ValueError(f"not a path inside an archive: {entry.path!r}")
    if len(entry.data) > _MOST:
        raise ValueError(f"too large for the newc format: {entry.path!r}")
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    # inode, mode, uid, gid, links, mtime, size, device it is on (2), device it is (2), length of the name, checksum
    numbers = (number, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.device, len(name) + 1, 0)
    header = b"070701" + b"".join(b"%08x" % value for value in numbers) + name + b"\0"
    return header, _padding(len(header), _ALIGNMENT), entry.data, _padding(len(entry.data), _ALIGNMENT)


def _padding(length: int, alignment: int) -> bytes:
    return b"\0" * (-length % alignment)
