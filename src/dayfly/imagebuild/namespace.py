"""Runs the parts of a build that need many user ids: in a user namespace with a process namespace in it.

All processes of such a command die with it, and it dies with us. It needs no root, only a range of subordinate ids. Root too has
no privileges on the host in there: all its ids in the namespace are subordinate ones.
"""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dayfly import process
from dayfly.errors import DayflyError, NoSpace, ProgramFailed, Refused
from dayfly.image.work import WorkFolder
from dayfly.imagebuild.idmap import IdMap, Owned, mapped
from dayfly.process import Child

_COUNT = 65536
_PROCESSES = ("--pid", "--fork", "--kill-child", "--mount", "--mount-proc")
_DIE_WITH_PARENT = ("setpriv", "--pdeathsig=KILL", "--")
"""The parent-death signal of `--kill-child` is lost when `--setuid` changes the ids, so it is set again."""


@dataclass(frozen=True)
class Namespace:
    """Runs commands as root of a range of user ids, in folders of their own."""

    prefix: tuple[str, ...]
    folder: Path
    lock: int
    owner: int | None
    users: Owned
    groups: Owned
    ids: IdMap | None = None

    def make(self, name: str) -> Path:
        """A new folder that the namespace's root may write to."""
        path = self.folder / name
        path.mkdir(mode=0o755)
        if self.owner is not None:
            os.chown(path, self.owner, self.owner)
        return path

    def inner(self, name: str) -> Namespace:
        """This namespace with a new folder of its own."""
        return replace(self, folder=self.make(name))

    def having(self, uids: set[int], gids: set[int]) -> Namespace:
        """This namespace with these ids, which may be any, added. Raises `Refused` if they are too many."""
        if max(*uids, *gids, 0) < _COUNT:
            return self
        return replace(self, ids=IdMap(mapped(uids, self.users, _COUNT), mapped(gids, self.groups, _COUNT)))

    def run(
        self,
        argv: list[str],
        *,
        env: Mapping[str, str],
        stdin: int | None = None,
        stdout: int | None = None,
        progress: Callable[[str], None] | None = None,
        started: Callable[[], None] | None = None,
        hint: str = "",
    ) -> None:
        """Run a command in the namespace to its end; `started` is called once it has started. Raises `ProgramFailed`."""
        process.find(argv[0])

        with reporting_no_space(self.folder), self._entering() as (prefix, keep, let_in):

            def spawned(child: Child) -> None:
                let_in(child)
                if started:
                    started()

            process.run(
                [*prefix, *argv],
                env=env,
                stdin=stdin,
                stdout=stdout,
                keep=(self.lock, *keep),
                progress=progress,
                spawned=spawned,
                hint=hint,
            )

    @contextlib.contextmanager
    def _entering(self) -> Iterator[tuple[tuple[str, ...], tuple[int, ...], Callable[[Child], None]]]:
        """The prefix of a command in the namespace, descriptors that it inherits, and a function to call once it has started."""
        if self.ids is None:
            yield self.prefix, (), lambda _: None
            return
        with self.ids.entering() as (prefix, keep, let_in):
            yield (*prefix, *_DIE_WITH_PARENT, "unshare", *_PROCESSES, "--", *_DIE_WITH_PARENT), keep, let_in


@contextlib.contextmanager
def reporting_no_space(folder: Path) -> Iterator[None]:
    """Turn a program's failure for lack of space into `NoSpace`, which names the folder."""
    try:
        yield
    except ProgramFailed as error:
        if "No space left on device" in error.tail or "Disk quota exceeded" in error.tail:
            hint = "make room there, or set another folder in the settings"
            raise NoSpace(f"no space left in {folder} for {error.command[0]}", hint) from error
        raise


def prefix(owner: int | None) -> tuple[str, ...]:
    """The prefix of a command in the namespace. `owner` is root's first subordinate id, None for other users."""
    if owner is None:
        ids = ["--map-root-user", "--map-auto"]
    else:
        mapped = f"{owner},0,{_COUNT}"
        ids = [f"--map-users={mapped}", f"--map-groups={mapped}", "--setuid=0", "--setgid=0"]
    return ("unshare", "--user", *ids, *_PROCESSES, "--", *_DIE_WITH_PARENT)


def enter(work: WorkFolder, scratch: Path) -> Namespace:
    """Prepare a namespace for one build.

    An ordinary user is the root of the namespace, and so can use the work folder itself. Root is not: its folder is in
    `scratch`, since the path to its own may be closed to other users. Raises `ProgramMissing`, or `Refused` with what is
    missing.
    """
    process.find("unshare", "util-linux")
    process.find("newuidmap", "uidmap")
    user = pwd.getpwuid(os.geteuid()).pw_name
    start, group_start = _range_of(user, "/etc/subuid"), _range_of(user, "/etc/subgid")
    if os.geteuid() != 0:
        own_user, own_group = Owned(os.geteuid(), start), Owned(os.getegid(), group_start)
        return Namespace(prefix(None), work.path, work.lock, None, own_user, own_group)
    if start != group_start:
        raise Refused(
            "root's subordinate user and group ids do not begin at the same number", "make /etc/subuid and /etc/subgid agree"
        )
    _check_reachable(scratch)
    folder = work.outside(scratch)
    folder.chmod(0o711)
    return Namespace(prefix(start), folder, work.lock, start, Owned(None, start), Owned(None, start))


def _range_of(user: str, path: str) -> int:
    start = find_range(_lines(Path(path)), user, os.geteuid())
    if start is None:
        raise Refused(
            f"the user {user} has fewer than {_COUNT} subordinate ids in {path}; building needs them",
            f"ask the administrator to run: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}",
        )
    return start


def find_range(lines: list[str], user: str, uid: int) -> int | None:
    """The first id of a large enough range in lines of subuid(5)."""
    for line in lines:
        name, _, numbers = line.partition(":")
        first, _, count = numbers.partition(":")
        if name in (user, str(uid)) and first.isdecimal() and count.isdecimal() and int(count) >= _COUNT:
            return int(first)
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _check_reachable(folder: Path) -> None:
    for place in (folder, *folder.parents):
        try:
            mode = place.stat().st_mode
        except OSError as error:
            raise DayflyError(f"cannot build in {folder}: {error.strerror}", "set scratch.folder to another folder") from error
        if not mode & 0o001:
            raise Refused(f"root builds with other user ids, which may not enter {place}", "set scratch.folder to another folder")
