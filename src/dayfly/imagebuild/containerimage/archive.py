"""Writes a tree as the tar archive for a filesystem: each file once, folders first, nothing below a symbolic link."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Sequence
from typing import BinaryIO

from dayfly import files
from dayfly.imagebuild.containerimage.tree import Content, Kind, Node, Tree

_TYPES = {Kind.FOLDER: tarfile.DIRTYPE, Kind.FILE: tarfile.REGTYPE, Kind.LINK: tarfile.SYMTYPE, Kind.FIFO: tarfile.FIFOTYPE}


def write(tree: Tree, layers: Sequence[int], target: BinaryIO, latest: int) -> None:
    """Write all files of a tree, none newer than `latest`. `layers` are descriptors of its unpacked layers."""
    names: dict[int, str] = {}
    for path, node in tree.walk():
        name = f"./{path}" if path else "."
        first = names.setdefault(id(node), name)
        if first != name:
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.LNKTYPE, first
            target.write(_block(link))
        elif node.content is not None and _is_sparse(node.content):
            _write_sparse(name, node, node.content, layers, target, latest)
        else:
            _write_plain(name, node, layers, target, latest)
    target.write(bytes(2 * tarfile.BLOCKSIZE))
    target.flush()


def _block(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _is_sparse(content: Content) -> bool:
    return sum(length for _, _, length in content.parts) != content.size


def _header(name: str, node: Node, size: int, latest: int) -> tarfile.TarInfo:
    info, about = tarfile.TarInfo(name), node.attributes
    info.type, info.linkname, info.size = _TYPES[node.kind], node.target, size
    info.mode, info.uid, info.gid, info.mtime = about.mode, about.uid, about.gid, min(about.mtime, latest)
    info.pax_headers = {f"SCHILY.xattr.{attribute}": value for attribute, value in about.extended}
    return info


def _write_plain(name: str, node: Node, layers: Sequence[int], target: BinaryIO, latest: int) -> None:
    target.write(_block(_header(name, node, node.size, latest)))
    if node.content is None:
        target.write(node.inline)
    else:
        _copy(node.content, layers, target)
    target.write(bytes(-node.size % tarfile.BLOCKSIZE))


def _write_sparse(name: str, node: Node, content: Content, layers: Sequence[int], target: BinaryIO, latest: int) -> None:
    """Write a file with holes as GNU tar does (its manual, "PAX Format, Version 1.0"): a map, then the parts with data."""
    parts = [*content.parts, (content.size, 0, 0)]
    numbers = [len(parts), *(number for start, _, length in parts for number in (start, length))]
    table = "".join(f"{number}\n" for number in numbers).encode()
    table += bytes(-len(table) % tarfile.BLOCKSIZE)
    stored = len(table) + sum(length for _, _, length in content.parts)
    info = _header(name, node, stored, latest)
    form = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": name, "GNU.sparse.realsize": str(content.size)}
    info.pax_headers = {**info.pax_headers, **form}
    target.write(_block(info) + table)
    _copy(content, layers, target)
    target.write(bytes(-stored % tarfile.BLOCKSIZE))


def _copy(content: Content, layers: Sequence[int], target: BinaryIO) -> None:
    target.flush()
    for _, position, length in content.parts:
        files.copy_range(layers[content.layer], target.fileno(), position, length)


def content(node: Node | None, layers: Sequence[int], limit: int) -> bytes:
    """The content of a small file; empty if it does not exist, is not a regular file, or is larger than `limit`."""
    if node is None or node.kind is not Kind.FILE or node.size > limit:
        return b""
    if node.content is None:
        return node.inline
    found = bytearray(node.size)
    for start, position, length in node.content.parts:
        found[start : start + length] = os.pread(layers[node.content.layer], length, position)
    return bytes(found)
