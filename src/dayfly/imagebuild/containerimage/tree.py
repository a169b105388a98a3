"""The files of a container image, built up from its layers: a tree in memory, so that no layer touches the host's files.

The rules are those of the OCI image specification, "Image Layer Filesystem Changeset". Symbolic links in paths are resolved as
inside the container, so they cannot lead out of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from dayfly.errors import Refused
from dayfly.units import format_size

_PATH_LIMIT = 3072
"""Linux opens paths of up to 4095 bytes, and mkfs.erofs opens these below the import's work folder."""
_NAME_LIMIT = 254
"""Linux has names of up to 255 bytes, but mkfs.erofs has no room for the last byte."""
_LINKS = 40
_DETOURS = 50
"""Steps along links per allowed entry, for all of an image together: a link to /usr/bin is two."""

_LAST_ID = 2**32 - 2
_TIMES = (-(2**31), 2**33)
"""The latest time, in seconds since the epoch, that all filesystems with dates after 2038 can hold."""
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_RESERVED = ".wh..wh."


class Kind(StrEnum):
    """The type of a file in the tree."""

    FOLDER = "folder"
    FILE = "file"
    LINK = "symbolic link"
    FIFO = "fifo"
    DEVICE = "device"


@dataclass(frozen=True)
class Limits:
    """The limits of a container image. `size` limits the unpacked layers and, separately, the files, both including holes."""

    size: int = 16 * 1024**3
    entries: int = 1_000_000
    layers: int = 256
    depth: int = 256


@dataclass(frozen=True, slots=True)
class Content:
    """Where a file's bytes are: the layer, and the parts with data, as (offset in the file, offset in the layer, length)."""

    layer: int
    size: int
    parts: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Attributes:
    """A file's owner, mode, time (seconds since the epoch) and extended attributes."""

    mode: int
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    extended: tuple[tuple[str, str], ...] = ()


@dataclass(eq=False, slots=True)
class Node:
    """One file. A file with two names is a hard link. `inline` is the content of a file that is in no layer."""

    kind: Kind
    attributes: Attributes
    content: Content | None = None
    target: str = ""
    inline: bytes = b""
    children: dict[str, Node] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """The size of a file in bytes, including holes."""
        return self.content.size if self.content else len(self.inline)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a layer. `node` is None for a hard link (to `link`)."""

    path: str
    node: Node | None
    link: str = ""


class Tree:
    """The files so far. Raises `Refused` for anything that a layer may not have."""

    def __init__(self, limits: Limits, date: int) -> None:
        self._limits = limits
        self._folder = Attributes(0o755, mtime=date)
        self._entries = self._detours = 0
        self.root = self._new_folder()

    def _new_folder(self) -> Node:
        return Node(Kind.FOLDER, self._folder)

    def apply(self, entries: Iterable[Entry], *, hides: bool = True) -> None:
        """Lay one layer over the tree. Files of lower layers that it hides are removed first, wherever in the layer the whiteout
        is.

        With `hides` false, the archive is not a layer and has no whiteouts: `.wh.` is an ordinary prefix of a name.
        """
        kept: list[tuple[tuple[str, ...], Entry]] = []
        hiding: list[tuple[str, ...]] = []
        for entry in entries:
            self._entries += 1
            if self._entries > self._limits.entries:
                raise Refused(f"the container image has more than the limit of {self._limits.entries} entries")
            parts = split(entry.path, self._limits.depth)
            name = parts[-1] if parts else ""
            if hides and name.startswith(_WHITEOUT):
                hiding.append(parts)
            elif not hides or not any(part.startswith(_RESERVED) for part in parts):
                kept.append((parts, entry))
        new = self._new_folders(kept) if hiding else set()
        for parts in hiding:
            self._hide(parts, new)
        for parts, entry in kept:
            self._put(parts, entry)

    def _new_folders(self, kept: Iterable[tuple[tuple[str, ...], Entry]]) -> set[tuple[str, ...]]:
        """The folders of a layer that did not exist before, or were links."""
        folders = {parts for parts, entry in kept if entry.node is not None and entry.node.kind is Kind.FOLDER}
        return {parts for parts in folders if parts and not self.is_folder("/".join(parts))}

    def _hide(self, parts: tuple[str, ...], new: set[tuple[str, ...]]) -> None:
        """Remove what a whiteout hides. Below a `new` folder of its own layer there is nothing to hide: if the folder replaces a
        link, the link's target is not meant.
        """
        hidden = parts[-1].removeprefix(_WHITEOUT)
        if hidden in ("", ".", ".."):
            raise Refused(f"{'/'.join(parts)!r} is not a valid whiteout")
        if any(parts[:end] in new for end in range(1, len(parts))):
            return
        above = self._lookup(parts[:-1])
        if above is None:
            return
        if parts[-1] == _OPAQUE:
            above.children.clear()
        elif not parts[-1].startswith(_RESERVED):
            above.children.pop(hidden, None)

    def _put(self, parts: tuple[str, ...], entry: Entry) -> None:
        if not parts:
            if entry.node is not None and entry.node.kind is Kind.FOLDER:
                self.root.attributes = entry.node.attributes
                return
            raise Refused(f"the root of the container image is not a folder: {entry.path!r}")
        above, name = self._folder_of(parts[:-1], entry.path), parts[-1]
        new = self._linked(entry) if entry.node is None else entry.node
        old = above.children.get(name)
        if old is not None and old.kind is Kind.FOLDER and new.kind is Kind.FOLDER:
            old.attributes = new.attributes
        else:
            above.children[name] = new

    def _linked(self, entry: Entry) -> Node:
        parts = split(entry.link, self._limits.depth)
        above = self._lookup(parts[:-1])
        node = above.children.get(parts[-1]) if above is not None and parts else None
        if node is None:
            raise Refused(f"{entry.path!r} is a hard link to {entry.link!r}, which does not exist")
        if node.kind is Kind.FOLDER:
            raise Refused(f"{entry.path!r} is a hard link to a folder, {entry.link!r}")
        return node

    def _lookup(self, parts: tuple[str, ...]) -> Node | None:
        """The folder at a path; None if there is none."""
        try:
            return self._walk(parts, "/".join(parts), make=False)
        except _Missing:
            return None

    def _folder_of(self, parts: tuple[str, ...], what: str) -> Node:
        return self._walk(parts, what, make=True)

    def _walk(self, parts: tuple[str, ...], what: str, *, make: bool) -> Node:
        """Follow a path inside the tree; with `make`, missing folders are made on the way."""
        way = [self.root]
        left = list(reversed(parts))
        links = 0
        while left:
            part = left.pop()
            if part == "..":
                way = way[:-1] or way
            elif part not in ("", "."):
                found = self._step(way[-1], part, what, make=make)
                if found.kind is Kind.FOLDER:
                    way.append(found)
                    continue
                links += 1
                if links > _LINKS:
                    raise Refused(f"{what!r} leads through a loop of links")
                way = way[:1] if found.target.startswith("/") else way
                left += reversed(self._led(found.target.split("/")))
        if len(way) > self._limits.depth + 1:
            raise Refused(f"{what!r} is more than {self._limits.depth} folders deep")
        return way[-1]

    def _led(self, parts: list[str]) -> list[str]:
        """The target of a link. The steps of all links together are limited, so that they cannot take hours."""
        self._detours += len(parts)
        if self._detours > _DETOURS * self._limits.entries:
            raise Refused("its symbolic links take too many steps")
        return parts

    def _step(self, folder: Node, name: str, what: str, *, make: bool) -> Node:
        """The folder of this name in another one, or the link."""
        found = folder.children.get(name)
        if found is None and make:
            found = folder.children[name] = self._new_folder()
        if found is not None and found.kind in (Kind.FOLDER, Kind.LINK):
            return found
        if make:
            raise Refused(f"{what!r} is below {name!r}, which is not a folder")
        raise _Missing

    def find(self, path: str) -> Node | None:
        """The file at a path, links followed, also the last one; None if there is none."""
        parts = [part for part in path.split("/") if part]
        for _ in range(_LINKS):
            above = self._lookup(tuple(parts[:-1]))
            node = above.children.get(parts[-1]) if above is not None and parts else above
            if node is None or node.kind is not Kind.LINK:
                return node
            start = [] if node.target.startswith("/") else parts[:-1]
            parts = [*start, *(part for part in node.target.split("/") if part not in ("", "."))]
            if parts and parts[-1] == "..":
                return self._lookup(tuple(parts))
        return None

    def has(self, path: str) -> bool:
        """Whether the name exists; a link is not followed."""
        *above, name = path.split("/")
        folder = self._lookup(tuple(above))
        return folder is not None and name in folder.children

    def is_folder(self, path: str) -> bool:
        """Whether the name itself is a folder, not a link to one."""
        *above, name = path.split("/")
        folder = self._lookup(tuple(above))
        return folder is not None and name in folder.children and folder.children[name].kind is Kind.FOLDER

    def add(self, path: str, node: Node) -> None:
        """Put a file at a path, and make missing folders above it."""
        self._put(split(path, self._limits.depth), Entry(path, node))

    def add_folder(self, path: str, mode: int = 0o755) -> None:
        """Make a folder, and those above it, unless it exists. Links are followed, also dangling ones.

        Raises `Refused` if something else is in the way: nothing is replaced.
        """
        parts = split(path, self._limits.depth)
        if self._lookup(parts) is None:
            self._folder_of(parts, path).attributes = Attributes(mode, mtime=self._folder.mtime)

    def drop_devices(self) -> None:
        """Remove device nodes, under all of their names: a machine has its own, and one of them would hide files from an overlay.

        Until all layers are applied, they are files like others: they replace names, and have hard links.
        """
        for _, node in list(self.walk()):
            for name in [name for name, inner in node.children.items() if inner.kind is Kind.DEVICE]:
                del node.children[name]

    def walk(self) -> Iterator[tuple[str, Node]]:
        """All names with their files, in a fixed order: a folder before its content, the root (``""``) first."""
        waiting = [("", self.root)]
        while waiting:
            path, node = waiting.pop()
            yield path, node
            below = f"{path}/" if path else ""
            waiting += [(f"{below}{name}", node.children[name]) for name in sorted(node.children, reverse=True)]

    def check(self) -> int:
        """The size of all files in bytes, each counted once. Raises `Refused` if it is above the limit, or a path is too long."""
        nodes: dict[int, Node] = {}
        for path, node in self.walk():
            nodes[id(node)] = node
            if len(path) > _PATH_LIMIT // 4:
                split(path, self._limits.depth)  # a link may have made a path longer
        size = sum(node.size for node in nodes.values())
        if size > self._limits.size:
            raise Refused(
                f"its files are {format_size(size, self._limits.size)}, more than the limit of {format_size(self._limits.size)}",
                "--max-size raises it",
            )
        return size


class _Missing(Exception):
    """A path does not exist."""


def split(path: str, depth: int) -> tuple[str, ...]:
    """The names in an entry's path, which is relative to the root, with or without a leading `/`. Raises `Refused`."""
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if ".." in parts:
        raise Refused(f"a path contains ..: {path[:200]!r}")
    if "\0" in path:
        raise Refused(f"a path contains a NUL: {path[:200]!r}")
    if len(parts) > depth:
        raise Refused(f"{path[:100]!r}… is more than {depth} folders deep")
    if len(path.encode(errors="surrogateescape")) > _PATH_LIMIT:
        raise Refused(f"a path of more than {_PATH_LIMIT} bytes: {path[:100]!r}…")
    if any(len(part) > _NAME_LIMIT // 4 and len(part.encode(errors="surrogateescape")) > _NAME_LIMIT for part in parts):
        raise Refused(f"a name of more than {_NAME_LIMIT} bytes: {path[:100]!r}…")
    return parts


def attributes(path: str, mode: int, uid: int, gid: int, mtime: int, extended: Mapping[str, str]) -> Attributes:
    """Checked attributes, with times limited to the range of all filesystems. Raises `Refused` for invalid owners."""
    for name, number in (("user", uid), ("group", gid)):
        if not 0 <= number <= _LAST_ID:
            raise Refused(f"{path[:200]!r} has an invalid {name}: {number}")
    first, last = _TIMES
    return Attributes(mode & 0o7777, uid, gid, min(max(mtime, first), last), tuple(sorted(extended.items())))
