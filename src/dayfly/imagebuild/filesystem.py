"""Makes the read-only filesystems that a machine mounts."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from dayfly import process
from dayfly.imagebuild.namespace import Namespace, reporting_no_space

FORM = "erofs"
Progress = Callable[[str], None]
"""Called with a line of text for each step: `packages: downloading packages with apt`."""
_UUID = "6461790f-0000-4000-8000-66c900000000"
"""The same UUID in every filesystem, so that equal files make equal bytes. Nothing mounts a filesystem by UUID."""


NO_BOUND = 2**64 - 2
"""A date that limits no time. mkfs.erofs reads times as unsigned numbers: a time before 1970 is in the far future to it, and
would be replaced by any lower limit.
"""


def erofs_command(target: Path, folder: Path, *, all_root: bool) -> list[str]:
    """The command that makes an erofs filesystem of a folder. SOURCE_DATE_EPOCH limits the times of its files."""
    owner = ["--all-root"] if all_root else []
    return ["mkfs.erofs", "-zlz4hc,9", f"-U{_UUID}", "--quiet", *owner, str(target), str(folder)]


def environment(date: int) -> Mapping[str, str]:
    """The environment of these programs."""
    return {"PATH": ":".join(process.search_path()), "LC_ALL": "C.UTF-8", "SOURCE_DATE_EPOCH": str(date)}


def from_archive(namespace: Namespace, archive: Path, date: int) -> Path:
    """The file with the filesystem of a tar archive, owners preserved. Raises `ProgramFailed` or `NoSpace`."""
    with archive.open("rb") as source:
        return _made(namespace, _unpacked(namespace, source.fileno(), date), date)


def from_stream(namespace: Namespace, write: Callable[[BinaryIO], None], date: int) -> Path:
    """Like `from_archive`, for an archive that `write` writes and that is never stored. Raises as `write`, too."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    failures: list[Exception] = []

    def feed() -> None:
        try:
            with os.fdopen(writer, "wb") as target:
                write(target)
        except BrokenPipeError:
            return  # tar says why
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=feed)

    def started() -> None:
        os.close(reader)  # so that the writer notices when tar ends
        thread.start()

    try:
        folder = _unpacked(namespace, reader, date, started)
    finally:
        if thread.ident is None:
            os.close(reader)
            os.close(writer)
        else:
            thread.join()
        if failures:
            raise failures[0]
    return _made(namespace, folder, date)


def _unpacked(namespace: Namespace, source: int, date: int, started: Callable[[], None] | None = None) -> Path:
    process.find("mkfs.erofs", "erofs-utils")
    folder = namespace.make("root")
    command = ["tar", "--extract", "--preserve-permissions", "--same-owner", "--numeric-owner", "--xattrs", "--xattrs-include=*"]
    command += ["--delay-directory-restore", f"--directory={folder}"]
    namespace.run(command, env=environment(date), stdin=source, started=started)
    return folder


def _made(namespace: Namespace, folder: Path, date: int) -> Path:
    target = namespace.make("output") / f"root.{FORM}"
    namespace.run(erofs_command(target, folder, all_root=False), env=environment(date))
    return target


def from_folder(folder: Path, target: Path, date: int) -> Path:
    """The filesystem of a folder; all of its files are root's. Raises `ProgramFailed` or `NoSpace`."""
    process.find("mkfs.erofs", "erofs-utils")
    with reporting_no_space(target.parent):
        process.run(erofs_command(target, folder, all_root=True), env=environment(date))
    return target
