"""Converts the tar archive of mmdebstrap to the one that the image is made from.

Everything that depends on when, where or by whom the image was built is removed, the recipe's files are added, and no file is
newer than the recipe's date. So the same recipe and packages give the same bytes.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from dayfly.errors import Refused
from dayfly.image.manifest import OperatingSystem
from dayfly.imagebuild.accounts import FILES as ACCOUNT_FILES
from dayfly.imagebuild.accounts import Accounts
from dayfly.imagebuild.recipe import Recipe

_DROPPED = re.compile(
    "|".join(
        (
            r"(dev|run|tmp|var/tmp|proc|sys)/.+",
            r"var/(lib/apt/lists|cache/apt|log)/.+",  # including apt's `partial`, whose owner depends on who builds
            r"var/cache/(ldconfig/aux-cache|debconf/.*-old|man/.+)",
            r"var/lib/dpkg/.*-old",
            r"var/lib/systemd/(random-seed|catalog/database)",
            r"var/lib/dbus/machine-id",
            r"etc/(passwd|group|shadow|gshadow|subuid|subgid)-",
            r"etc/apt/apt\.conf\.d/99mmdebstrap",
            r"etc/apt/sources\.list\.d/0000\w*\.(list|sources)",
            r"etc/ssh/ssh_host_.*_key(\.pub)?",
            r"boot/initrd\.img.*",
            r"(initrd\.img|vmlinuz)(\.old)?",
            r"root/\.(bash_history|wget-hsts)",
        )
    )
)
_KEPT_FOLDERS = re.compile(r"var/(log(/[^/]+)*|lib/apt/lists|cache/apt(/archives)?|tmp)")
_TEXT_LIMIT = 16 * 1024**2
_LINKS = 40
HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


@dataclass(frozen=True)
class RootFacts:
    """Facts about the finished root."""

    os: OperatingSystem
    size: int
    accounts: Accounts


@dataclass(frozen=True)
class _Addition:
    """A file (a folder if `content` is None) to add to the image, or to replace in it."""

    path: str
    content: bytes | None
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


class RootArchive:
    """The archive of a root, for random access."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self.members = {normal(member.name): member for member in archive}

    def resolve(self, path: str) -> str:
        """A path with the image's symbolic links resolved, except for the last part."""
        done: list[str] = []
        left = [part for part in path.split("/") if part]
        for _ in range(_LINKS * 100):
            if len(left) <= 1:
                return "/".join((*done, *left))
            part = left.pop(0)
            if part in (".", ".."):
                done = done[:-1] if part == ".." else done
                continue
            member = self.members.get("/".join((*done, part)))
            if member is not None and member.issym():
                done = [] if member.linkname.startswith("/") else done
                left = [*(inner for inner in member.linkname.split("/") if inner), *left]
            else:
                done.append(part)
        raise Refused(f"{path} leads through a loop of links in the image")

    def follow(self, path: str) -> tarfile.TarInfo | None:
        """The member at a path, links followed."""
        for _ in range(_LINKS):
            path = self.resolve(path)
            member = self.members.get(path)
            if member is None or not member.issym():
                return member
            above = "" if member.linkname.startswith("/") else path.rpartition("/")[0]
            path = f"{above}/{member.linkname}"
        return None

    def text(self, path: str) -> str:
        """A text file's content; empty if there is none."""
        member = self.follow(path)
        return "" if member is None else self.content(member, _TEXT_LIMIT).decode(errors="surrogateescape")

    def content(self, member: tarfile.TarInfo, limit: int) -> bytes:
        """A regular file's content. Raises `Refused` if it is not one, or too large."""
        file = self._archive.extractfile(member) if member.isreg() or member.islnk() else None
        if file is None or member.size > limit:
            raise Refused(f"{member.name} in the image is not a file of at most {limit} bytes")
        with file:
            return file.read()

    def open(self, member: tarfile.TarInfo) -> IO[bytes] | None:
        """A regular file's content, to be read; None for a member without content."""
        return self._archive.extractfile(member) if member.isreg() else None

    def below(self, folder: str) -> Iterator[tuple[str, tarfile.TarInfo]]:
        """The members in a folder, by their paths in it."""
        start = f"{folder}/"
        for path, member in self.members.items():
            if path.startswith(start):
                yield path.removeprefix(start), member


def normal(name: str) -> str:
    """A member's path in normal form: no `./` before it, no `/` after it. Raises `Refused` if it could lead outside."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Refused(f"the archive contains a file {name!r}")
    return "/".join(parts)


def parse_os_release(text: str) -> OperatingSystem:
    """Read os-release(5)."""
    values = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and not name.startswith("#"):
            values[name.strip()] = value.strip().strip("\"'")
    return OperatingSystem(values.get("ID", "linux"), values.get("VERSION_ID", ""), values.get("PRETTY_NAME", ""))


def finish(source: Path, target: BinaryIO, recipe: Recipe, source_list: Sequence[str]) -> RootFacts:
    """Write the archive of the finished root. Raises `Refused` if the recipe does not fit the root."""
    with tarfile.open(source, "r:") as archive, tarfile.open(fileobj=target, mode="w:", format=tarfile.PAX_FORMAT) as output:
        root = RootArchive(archive)
        accounts = _accounts(root, recipe)
        changes = {addition.path: addition for addition in _additions(root, recipe, accounts, source_list)}
        size = 0
        for path, member in root.members.items():
            if path in changes or (_DROPPED.fullmatch(path) and not (member.isdir() and _KEPT_FOLDERS.fullmatch(path))):
                continue
            member.name = f"./{path}" if path else "."
            member.mtime = min(int(member.mtime), recipe.date)
            member.pax_headers = {name: value for name, value in member.pax_headers.items() if name.startswith("SCHILY.xattr.")}
            if member.islnk():
                member.linkname = f"./{normal(member.linkname)}"
            output.addfile(member, root.open(member))
            size += member.size if member.isreg() else 0
        for addition in changes.values():
            output.addfile(*_entry(addition, recipe.date))
            size += len(addition.content or b"")
        system = parse_os_release(root.text("etc/os-release"))
    return RootFacts(system, size, accounts)


def _entry(addition: _Addition, date: int) -> tuple[tarfile.TarInfo, io.BytesIO | None]:
    member = tarfile.TarInfo(f"./{addition.path}")
    member.type = tarfile.DIRTYPE if addition.content is None else tarfile.REGTYPE
    member.mode, member.uid, member.gid, member.mtime = addition.mode, addition.uid, addition.gid, date
    member.size = len(addition.content or b"")
    return member, None if addition.content is None else io.BytesIO(addition.content)


def _accounts(root: RootArchive, recipe: Recipe) -> Accounts:
    day = recipe.date // 86400
    return Accounts.read({name: root.text(name) for name in ACCOUNT_FILES}).dated(day).adding(recipe.users, day)


def _additions(root: RootArchive, recipe: Recipe, accounts: Accounts, source_list: Sequence[str]) -> list[_Addition]:
    found = [
        _Addition("etc/machine-id", b"", 0o444),
        _Addition("etc/hostname", b"localhost\n"),
        _Addition("etc/resolv.conf", b""),
        _Addition("etc/apt/sources.list", "".join(f"{line}\n" for line in source_list).encode()),
    ]
    if "etc/hosts" not in root.members:
        found.append(_Addition("etc/hosts", HOSTS.encode()))
    for name, text in accounts.write().items():
        member = root.members.get(name)
        secret = name.endswith("shadow")
        mode = member.mode if member else 0o640 if secret else 0o644
        gid = member.gid if member else 0
        found.append(_Addition(name, text.encode(errors="surrogateescape"), mode, 0, gid))
    for user in recipe.users:
        home = root.resolve(user.home)
        found.append(_Addition(home, None, 0o755, user.uid, user.gid))
        for path, member in root.below("etc/skel"):
            content = root.content(member, _TEXT_LIMIT) if member.isreg() else None
            if content is not None or member.isdir():
                found.append(_Addition(f"{home}/{path}", content, member.mode, user.uid, user.gid))
    for file in recipe.files:
        ids = accounts.uid(file.owner), accounts.gid(file.group)
        found.append(_Addition(_place(root, file.path), file.content, file.mode, *ids))
    return _with_folders(root.members, found)


def _place(root: RootArchive, path: str) -> str:
    place = root.resolve(path)
    member = root.members.get(place)
    if member is not None and member.isdir():
        raise Refused(f"{path} is a folder in the image, and a file in the recipe")
    return place


def _with_folders(members: Mapping[str, tarfile.TarInfo], additions: Sequence[_Addition]) -> list[_Addition]:
    """The additions, plus the folders above them that are missing in the image."""
    complete: dict[str, _Addition] = {}
    for addition in additions:
        parts = addition.path.split("/")
        for count in range(1, len(parts)):
            above = "/".join(parts[:count])
            if above in complete or above in members:
                continue
            complete[above] = _Addition(above, None, 0o755)
        complete[addition.path] = addition
    return list(complete.values())
