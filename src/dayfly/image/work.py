"""Folders for work in progress in a library. The next process removes those of dead processes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dayfly import disknames, files
from dayfly.image.layout import Layout

_ATTEMPTS = 5
OUTSIDE_PREFIX = "dayfly-work-"
"""The prefix of names of folders that a work folder's link `outside` may lead to."""


@dataclass(frozen=True)
class WorkFolder:
    """A folder of this process until the end of the block.

    Child processes that write there inherit `lock`, and so hold it as long as they live.
    """

    path: Path
    lock: int

    def outside(self, parent: Path) -> Path:
        """A folder elsewhere that belongs to this one and is removed with it."""
        folder = parent / f"{OUTSIDE_PREFIX}{self.path.name}"
        (self.path / disknames.WORK_OUTSIDE).symlink_to(
            folder
        )  # first: a kill between the two must not leave a folder that nothing leads to
        folder.mkdir(mode=0o700)
        return folder


@contextlib.contextmanager
def work_folder(layout: Layout) -> Iterator[WorkFolder]:
    """A new work folder, removed at the end with everything in it."""
    identity = secrets.token_hex(8)
    path = layout.work / identity
    with files.locked(layout.work / disknames.WORK_LOCK):
        path.mkdir(mode=0o755)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        files.unused(descriptor)
    try:
        yield WorkFolder(path, descriptor)
    finally:
        os.close(descriptor)
        _remove_when_left(path)


def _remove_when_left(path: Path) -> None:
    """Remove a work folder when the last child that inherited its lock has exited, which may take a moment after a
    failed step.
    """
    with contextlib.suppress(FileNotFoundError):  # another process may remove it first
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            _remove(path)
        finally:
            os.close(descriptor)


def sweep(layout: Layout) -> int:
    """Remove the work folders of dead processes, and return their number."""
    if not layout.work.is_dir():
        return 0
    stale: list[tuple[Path, int]] = []
    with files.locked(layout.work / disknames.WORK_LOCK):
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
def resumable_folder(layout: Layout, name: str) -> Iterator[Path]:
    """The folder of this name for work that a later process can resume.

    It is this process's alone until the end of the block. It is removed if the block succeeds. After a failure it stays with
    its content; then `remove_resumable` removes it.
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


def remove_resumable(layout: Layout) -> int:
    """Remove the resumable folders that no process works in, and return their number."""
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
    link = path / disknames.WORK_OUTSIDE
    if link.is_symlink():
        target = link.readlink()
        if target.name == f"{OUTSIDE_PREFIX}{path.name}" and target.is_dir() and not target.is_symlink():
            remove_tree(target)
    remove_tree(path)


def remove_tree(path: Path) -> None:
    """Remove a tree, including files that belong to our subordinate user ids. Raises `ProgramFailed`.

    Tried more than once: when a process namespace is killed, its first process releases the lock a moment before the last
    ones exit, and these may still add a file.
    """
    from dayfly import process  # noqa: PLC0415 (not on the way of a job)

    plain = ["rm", "--recursive", "--force", "--one-file-system", "--", str(path)]
    commands = [plain] if os.geteuid() == 0 else [plain, ["unshare", "--user", "--map-root-user", "--map-auto", "--", *plain]]
    for _ in range(_ATTEMPTS - 1):
        if any(process.run(command, check=False).status == 0 for command in commands):
            return
    process.run(commands[-1])
