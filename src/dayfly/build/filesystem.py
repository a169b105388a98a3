"""From files to the read-only filesystems that a machine mounts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from dayfly import process
from dayfly.build.namespace import Namespace, space_told

FORM = "erofs"
_UUID = "6461790f-0000-4000-8000-66c900000000"
"""The same in every filesystem, so that equal files make equal bytes. Nothing mounts one by its UUID."""


def erofs_command(target: Path, folder: Path, *, all_root: bool) -> list[str]:
    """The command that makes an erofs filesystem of a folder. SOURCE_DATE_EPOCH bounds the times of its files."""
    owner = ["--all-root"] if all_root else []
    return ["mkfs.erofs", "-zlz4hc,9", f"-U{_UUID}", "--quiet", *owner, str(target), str(folder)]


def environment(date: int) -> Mapping[str, str]:
    """What these programs find in their environment."""
    return {"PATH": ":".join(process.search_path()), "LC_ALL": "C.UTF-8", "SOURCE_DATE_EPOCH": str(date)}


def from_archive(namespace: Namespace, archive: Path, date: int) -> Path:
    """The filesystem of a tar archive, with all of its owners: its file. Raises `ProgramFailed` or `NoSpace`."""
    process.find("mkfs.erofs", "erofs-utils")
    folder = namespace.make("root")
    output = namespace.make("output")
    source = os.open(archive, os.O_RDONLY | os.O_CLOEXEC)
    try:
        command = [
            "tar",
            "--extract",
            "--preserve-permissions",
            "--same-owner",
            "--numeric-owner",
            "--xattrs",
            "--xattrs-include=*",
        ]
        namespace.run([*command, "--delay-directory-restore", f"--directory={folder}"], env=environment(date), stdin=source)
    finally:
        os.close(source)
    target = output / f"root.{FORM}"
    namespace.run(erofs_command(target, folder, all_root=False), env=environment(date))
    return target


def from_folder(folder: Path, target: Path, date: int) -> Path:
    """The filesystem of a folder; all of its files are root's. Raises `ProgramFailed` or `NoSpace`."""
    process.find("mkfs.erofs", "erofs-utils")
    with space_told(target.parent):
        process.run(erofs_command(target, folder, all_root=True), env=environment(date))
    return target
