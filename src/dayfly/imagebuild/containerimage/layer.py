"""Reads an unpacked layer, a tar archive, as entries of a tree. No number or name in it is trusted."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from dayfly import tar
from dayfly.errors import Refused
from dayfly.imagebuild.containerimage.tree import Content, Entry, Kind, Node, attributes

_EXTENDED_LIMIT = 3072
"""Bytes of extended attributes of one file: ext4 has a block of 4 KiB for them."""
_TARGET_LIMIT = 4095
_KEPT = re.compile(r"user\.(?!overlay\.).+|security\.capability", re.DOTALL)
"""Attributes that users set. Others belong to a kernel: SELinux labels, overlay metadata."""
_KEPT_OF_MACHINES = re.compile(r"user\..+|security\.capability", re.DOTALL)
"""The metadata of a machine's overlay is `trusted.…`; the attributes that a job sees belong to the files."""
_KINDS = {
    tar.Kind.FILE: Kind.FILE,
    tar.Kind.FOLDER: Kind.FOLDER,
    tar.Kind.LINK: Kind.LINK,
    tar.Kind.FIFO: Kind.FIFO,
    tar.Kind.DEVICE: Kind.DEVICE,
}


def entries(path: Path, number: int, limit: int, *, captured: bool = False) -> Iterator[Entry]:
    """The entries of a layer, in order, at most `limit`. `number` is the layer's.

    If `captured`, it is an archive of a machine's files: without an end marker it is truncated. Raises `Refused`.
    """
    with path.open("rb") as file:
        members = tar.members(file, limit, marked=captured)
        while True:
            try:
                member = next(members, None)
            except Refused as error:
                raise Refused(f"layer {number + 1} cannot be read: {error.message}") from error
            if member is None:
                return
            yield _entry(member, number, _KEPT_OF_MACHINES if captured else _KEPT)


def _entry(member: tar.Member, number: int, wanted: re.Pattern[str]) -> Entry:
    if member.kind is tar.Kind.HARD_LINK:
        if not member.target:
            raise Refused(f"{member.name[:200]!r} is a hard link without a target")
        return Entry(member.name, None, member.target)
    kind = _KINDS[member.kind]
    has_some = member.extended and kind in (Kind.FILE, Kind.FOLDER)
    kept = needed_attributes(member.name, member.extended.items(), wanted) if has_some else {}
    about = attributes(member.name, member.mode, member.uid, member.gid, member.mtime, kept)
    if kind is Kind.LINK:
        return Entry(member.name, Node(kind, about, target=_target(member)))
    content = Content(number, member.size, member.parts) if kind is Kind.FILE else None
    return Entry(member.name, Node(kind, about, content))


def _target(member: tar.Member) -> str:
    target = member.target
    if not target or "\0" in target or len(os.fsencode(target)) > _TARGET_LIMIT:
        raise Refused(f"{member.name[:200]!r} is a symbolic link without a target")
    return target


def needed_attributes(path: str, found: Iterable[tuple[str, str]], wanted: re.Pattern[str] = _KEPT) -> dict[str, str]:
    """The extended attributes of a file that a machine needs. Raises `Refused` if they are too large."""
    kept = {name: value for name, value in found if wanted.fullmatch(name)}
    size = sum(len(text.encode(errors="surrogateescape")) for pair in kept.items() for text in pair)
    if size > _EXTENDED_LIMIT or any("\0" in name or "=" in name for name in kept):
        raise Refused(f"{path[:200]!r} has extended attributes of more than {_EXTENDED_LIMIT} bytes")
    return kept
