"""Runs the programs that open a user's disk: without privileges on the host, without a network, with limits on all resources."""

from __future__ import annotations

import os
from pathlib import Path

from dayfly import files, process
from dayfly.errors import ProgramFailed, Refused
from dayfly.image.inspection.texts import shown
from dayfly.imagebuild.disk.formats import Format
from dayfly.imagebuild.namespace import Namespace

_MEMORY = 2 * 1024**3
_SECONDS = 3600
_SLACK = 64 * 1024**2
"""Bytes that a file may have in addition to its disk: the tables of a qcow2, for a disk of up to about 300 GiB."""
_NOT_FOUND_BAD = (3, 63)
"""Exit statuses of `qemu-img check` for leaked clusters, and for formats that it cannot check."""
_TIMEOUT = 124
_UNPACKED_MOST = 512 * 1024**2
_LINES, _LINE = 3, 240
"""Of a program's last output: the number of lines, and of characters of each."""


def to_raw(namespace: Namespace, source: Path, form: Format, size: int, what: str) -> Path:
    """A whole disk as a raw file with holes; `form` is the format that was recognised. Raises `Refused` if it is damaged,
    `NoSpace`.
    """
    if form is Format.RAW:
        return source
    _run(namespace, ["qemu-img", "check", "-q", "-f", form, str(source)], _SLACK, what, good=_NOT_FOUND_BAD)
    target = namespace.make("raw") / "disk.raw"
    _run(namespace, ["qemu-img", "convert", "-f", form, "-O", "raw", str(source), str(target)], size, what)
    return target


def to_qcow2(namespace: Namespace, raw: Path, size: int, what: str) -> Path:
    """A raw disk as stored in an image. Equal disks give equal bytes."""
    target = namespace.make("qcow2") / "disk.qcow2"
    options = ["-c", "-o", "compat=1.1,compression_type=zstd"]
    command = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, str(raw), str(target)]
    _run(namespace, command, size + _SLACK + size // 4096, what)
    return target


def replay(namespace: Namespace, raw: Path, start: int, size: int, what: str) -> None:
    """Replay a filesystem's journal, in our copy of the disk. Raises `Refused`, `NoSpace`.

    e2fsck gets the filesystem as a file of its own: with an offset, it does not find it again after the replay.
    """
    process.find("e2fsck", "e2fsprogs")
    path = namespace.make(f"journal-{start}") / "filesystem"
    with raw.open("r+b") as disk, path.open("x+b") as filesystem, files.reporting_full_disk(path.parent):
        filesystem.truncate(size)
        _copy(disk.fileno(), start, filesystem.fileno(), 0, size)
        if namespace.owner is not None:
            os.chown(path, namespace.owner, namespace.owner)
        _run(namespace, ["e2fsck", "-y", "-E", "journal_only", str(path)], size, what, good=(1,))
        _copy(filesystem.fileno(), 0, disk.fileno(), start, size)
    path.unlink()


def _copy(source: int, start: int, target: int, place: int, size: int) -> None:
    """Copy a part of one open file to another, without its holes."""
    for begin, end in files.data_of(source, start + size):
        begin, end = max(begin, start), min(end, start + size)
        if begin < end:
            os.lseek(target, place + begin - start, os.SEEK_SET)
            files.copy_range(source, target, begin, end - begin)


def unpack(namespace: Namespace, argv: list[str], stdin: int, stdout: int) -> None:
    """Run a program that unpacks a file from a disk. Raises `Refused` if it fails, `ProgramMissing`."""
    _run(namespace, argv, _UNPACKED_MOST, "a kernel or a module of it", streams=(stdin, stdout))


def _run(
    namespace: Namespace,
    argv: list[str],
    most: int,
    what: str,
    good: tuple[int, ...] = (),
    streams: tuple[int | None, int | None] = (None, None),
) -> None:
    process.find(argv[0], "qemu-utils" if argv[0] == "qemu-img" else "")
    limits = ["timeout", "--kill-after=5", str(_SECONDS), "prlimit", f"--fsize={most}", f"--as={_MEMORY}", "--core=0", "--"]
    rights = ["setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all", "--"]
    environment = {"PATH": ":".join(process.search_path()), "LC_ALL": "C.UTF-8"}
    try:
        stdin, stdout = streams
        command = ["unshare", "--net", "--ipc", "--", *limits, *rights, *argv]
        namespace.run(command, env=environment, stdin=stdin, stdout=stdout)
    except ProgramFailed as error:
        if error.status in good:
            return
        if error.status == _TIMEOUT:
            raise Refused(f"{argv[0]} did not finish {what} within {_SECONDS} s") from error
        lines = [_without_paths(line, argv, namespace) for line in error.tail.splitlines() if line.strip()]
        reason = "; ".join(shown(line, _LINE) for line in lines[-_LINES:]) or f"{argv[0]} exited with {error.status}"
        raise Refused(f"{what} is damaged or truncated: {reason}") from error


def _without_paths(line: str, argv: list[str], namespace: Namespace) -> str:
    """A line of a program's output, without the paths of temporary files."""
    own = [word for word in argv if word.startswith(f"{namespace.folder}/")]
    for path in sorted(own, key=len, reverse=True):
        line = line.replace(path, "it")
    return line
