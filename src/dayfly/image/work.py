"""Folders for work under way in a library. One whose process is gone is swept away by the next."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dayfly import files
from dayfly.image.layout import Layout

_ATTEMPTS = 5
OUTSIDE_PREFIX = "dayfly-work-"
"""How the name of a folder begins that a work folder's link `outside` may lead to."""


@dataclass(frozen=True)
class WorkFolder:
    """A folder that is ours until the end of the block.

    Children that write there inherit `lock`, and so hold it for as long as they live.
    """

    path: Path
    lock: int

    def outside(self, parent: Path) -> Path:
        """A folder elsewhere that belongs to this one and is removed with it."""
        folder = parent / f"{OUTSIDE_PREFIX}{self.path.name}"
        (self.path / "outside").symlink_to(folder)  # first: a kill between the two must not leave a folder that nothing leads to
        folder.mkdir(mode=0o700)
        return folder


@contextlib.contextmanager
def work_folder(layout: Layout) -> Iterator[WorkFolder]:
    """A new work folder, removed at the end with whatever is in it."""
    identity = secrets.token_hex(8)
    path = layout.work / identity
    with files.locked(layout.work / ".lock"):
        path.mkdir(mode=0o755)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        files.unused(descriptor)
    try:
        yield WorkFolder(path, descriptor)
    finally:
        os.close(descriptor)
        _remove_when_left(path)


def _remove_when_left(path: Path) -> None:
    """Remove a work folder when the last child that inherited its lock has ended: those of a failed step may still be dying."""
    with contextlib.suppress(FileNotFoundError):  # another process may sweep it away before us
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            _remove(path)
        finally:
            os.close(descriptor)


def sweep(layout: Layout) -> int:
    """Remove the work folders of processes that are gone: how many there were."""
    if not layout.work.is_dir():
        return 0
    stale: list[tuple[Path, int]] = []
    with files.locked(layout.work / ".lock"):
        for path in sorted(layout.work.iterdir()):
            if path.is_symlink() or not path.is_dir():
                continue
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            if files.unused(descriptor):
                stale.append((path, descriptor))
            else:
                os.close(descriptor)
    for path, descriptor in stale:
        try:
            _remove(path)
        finally:
            os.close(descriptor)
    return len(stale)


@contextlib.contextmanager
def kept_folder(layout: Layout, name: str) -> Iterator[Path]:
    """The folder of this name for work that a later process can go on with: ours alone until the end of the block.

    It is removed when the block ends well, and kept with what is in it when not; then `forget_kept` removes it.
    """
    path = layout.pulls / name
    while True:
        path.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:  # removed between the two calls
            continue
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            break
        os.close(descriptor)  # removed by whoever held it
    try:
        yield path
        remove_tree(path)
    finally:
        os.close(descriptor)


def forget_kept(layout: Layout) -> int:
    """Remove the kept folders that nobody works in: how many there were."""
    removed = 0
    for path in sorted(layout.pulls.iterdir()) if layout.pulls.is_dir() else ():
        if path.is_symlink() or not path.is_dir():
            continue
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                if files.unused(descriptor):
                    remove_tree(path)
                    removed += 1
            finally:
                os.close(descriptor)
    return removed


def _remove(path: Path) -> None:
    link = path / "outside"
    if link.is_symlink():
        target = link.readlink()
        if target.name == f"{OUTSIDE_PREFIX}{path.name}" and target.is_dir() and not target.is_symlink():
            remove_tree(target)
    remove_tree(path)


def remove_tree(path: Path) -> None:
    """Remove a tree, also the files in it that belong to our subordinate user ids. Raises `ProgramFailed`.

    Tried more than once: when a process namespace is killed, the lock goes with its first process, a moment before
    the last ones, and these may still add a file.
    """
    from dayfly import process  # noqa: PLC0415 (not on the way of a job)

    plain = ["rm", "--recursive", "--force", "--one-file-system", "--", str(path)]
    commands = [plain] if os.geteuid() == 0 else [plain, ["unshare", "--user", "--map-root-user", "--map-auto", "--", *plain]]
    for _ in range(_ATTEMPTS - 1):
        if any(process.run(command, check=False).status == 0 for command in commands):
            return
    process.run(commands[-1])
