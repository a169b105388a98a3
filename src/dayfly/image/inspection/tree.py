"""Paths in an image's filesystem. Links are followed inside of it, and the total amount read has a limit."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from dayfly.errors import Corrupt, DayflyError, Refused
from dayfly.image.inspection.erofs import MOST_FILES, Erofs, Inode
from dayfly.image.inspection.texts import shown
from dayfly.values import dataclass

MOST_CONTENT = 128 * 1024**2
MOST_STEPS = 20_000_000
"""Steps from one name to the next, of all paths that are looked up."""
_MOST_WAITING = 64 * 1024**2
_MOST_KEPT = 500_000
"""The most names of folders in the cache."""
_MOST_UNREAD = 100
_MOST_LINKS = 40
_LONGEST_PATH = 4096
_LONGEST_TARGET = 4096


@dataclass(frozen=True)
class Unread:
    """Something that could not be read and is not in the report: the section, the path, and why."""

    section: str
    path: str
    why: str


class Tree:
    """An image's files by absolute paths. `unread` lists what could not be read."""

    def __init__(self, filesystem: Erofs) -> None:
        self._filesystem = filesystem
        self._folders: dict[int, dict[bytes, int]] = {}
        self._kept = 0
        self._content = 0
        self._steps = 0
        self.unread: list[Unread] = []

    def walk(self) -> Iterator[tuple[bytes, Inode]]:
        """Every file with its path, unordered. Raises `Corrupt`, also for a directory in two places; `Refused` for too many
        files.
        """
        seen, count, size = {self._filesystem.root.nid}, 0, 0
        waiting = [(b"", self._filesystem.root)]
        while waiting:
            folder, inode = waiting.pop()
            size -= len(folder)
            for name, nid in self._filesystem.entries(inode):
                path, found, count = folder + b"/" + name, self._filesystem.inode(nid), count + 1
                if count > MOST_FILES or len(path) > _LONGEST_PATH:
                    raise Refused(f"it has more than {MOST_FILES} files, or a path of more than {_LONGEST_PATH} bytes")
                if found.is_directory:
                    if nid in seen:
                        raise Corrupt("the filesystem has one directory in two places")
                    seen.add(nid)
                    size += len(path)
                    if size > _MOST_WAITING:
                        raise Refused("it has too many directories with long paths")
                    waiting.append((path, found))
                yield path, found

    def xattrs(self, inode: Inode) -> dict[bytes, bytes]:
        """A file's extended attributes. Raises `Corrupt`."""
        return self._filesystem.xattrs(inode)

    def has(self, path: str) -> bool:
        """Whether a path exists, also as a dangling link."""
        folder, name = posixpath.split(path)
        return name in self.names(folder)

    def target(self, path: str) -> str:
        """The target of a link as written; empty if the path is not a link."""
        folder, name = posixpath.split(path)
        found = self._resolve(folder)
        if found is None or not found[1].is_directory:
            return ""
        nid = self._names(found[1]).get(_encoded(name))
        inode = self._filesystem.inode(nid) if nid is not None else None
        return _decoded(self._filesystem.read(inode, _LONGEST_TARGET)) if inode is not None and inode.is_link else ""

    def find(self, path: str) -> Inode | None:
        """The file at a path, links followed; None if there is none. Raises `Corrupt`."""
        found = self._resolve(path)
        return found[1] if found else None

    def names(self, path: str) -> list[str]:
        """The names in a folder, sorted; none if there is no folder. Raises `Corrupt`."""
        inode = self.find(path)
        return sorted(_decoded(name) for name in self._names(inode)) if inode is not None and inode.is_directory else []

    def read(self, path: str, limit: int, section: str) -> bytes | None:
        """A file's content; None if there is no file. If it cannot be read, it is added to `unread` and is None too."""
        try:
            inode = self.find(path)
            if inode is None:
                return None
            if not inode.is_file:
                raise Refused("it is not a regular file")
            self._content += min(inode.size, limit)
            if self._content > MOST_CONTENT:
                raise Refused(f"more than {MOST_CONTENT} bytes of the image would be read")
            return self._filesystem.read(inode, limit)
        except DayflyError as error:
            self.pass_over(section, path, error.message)
            return None

    def pass_over(self, section: str, path: str, why: str) -> None:
        """Note what could not be read."""
        noted = Unread(section, shown(path), shown(why))
        if noted not in self.unread and sum(other.section == section for other in self.unread) < _MOST_UNREAD:
            self.unread.append(noted)

    def _names(self, folder: Inode) -> dict[bytes, int]:
        found = self._folders.get(folder.nid)
        if found is None:
            found = dict(self._filesystem.entries(folder))
            self._kept += len(found)
            if self._kept > _MOST_KEPT:
                self._folders.clear()
                self._kept = len(found)
            self._folders[folder.nid] = found
        return found

    def _resolve(self, path: str) -> tuple[str, Inode] | None:
        """The path with links resolved, and the file there. A `..` does not lead out of the image. Raises `Refused`."""
        left = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        way: list[tuple[str, Inode]] = [("", self._filesystem.root)]
        links = 0
        while left:
            part = left.pop()
            self._steps += 1
            if self._steps > MOST_STEPS:
                raise Refused("its paths and links are too long")
            if part in ("", "."):
                continue
            if part == "..":
                way = way[: max(len(way) - 1, 1)]
                continue
            if not way[-1][1].is_directory:
                return None
            nid = self._names(way[-1][1]).get(_encoded(part))
            if nid is None:
                return None
            inode = self._filesystem.inode(nid)
            if not inode.is_link:
                way.append((part, inode))
                continue
            links += 1
            if links > _MOST_LINKS or len(left) > _LONGEST_PATH:
                return None
            target = _decoded(self._filesystem.read(inode, _LONGEST_TARGET))
            left.extend(reversed(target.split("/")))
            way = way[:1] if target.startswith("/") else way
        return "/" + "/".join(name for name, _ in way[1:]), way[-1][1]


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _decoded(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
