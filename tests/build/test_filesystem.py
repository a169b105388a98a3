"""Filesystems of archives that are written while they are unpacked."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import BinaryIO

import pytest
from tests.framework.containers import file, folder, tar
from tests.framework.site import eventually

from dayfly.errors import Corrupt, ProgramFailed
from dayfly.image.library import Library
from dayfly.image.work import work_folder
from dayfly.imagebuild.filesystem import from_archive, from_stream
from dayfly.imagebuild.namespace import enter

CONTENT = tar(folder("./"), folder("a"), file("a/x", b"content" * 1000, uid=5))


def test_a_stream_gives_the_same_as_an_archive(tmp_path: Path, scratch: Path) -> None:
    def write(target: BinaryIO) -> None:
        target.write(CONTENT)

    library = Library(tmp_path / "library")
    library.create()
    (tmp_path / "archive").write_bytes(CONTENT)
    with work_folder(library.layout) as work:
        first = from_archive(enter(work, scratch), tmp_path / "archive", 2_000_000_000).read_bytes()
    with work_folder(library.layout) as work:
        assert from_stream(enter(work, scratch), write, 2_000_000_000).read_bytes() == first


def test_what_the_writer_fails_of_is_what_is_told(tmp_path: Path, scratch: Path) -> None:
    def write(target: BinaryIO) -> None:
        target.write(CONTENT[:600])
        raise Corrupt("the layer is gone")

    library = Library(tmp_path / "library")
    library.create()
    with work_folder(library.layout) as work, pytest.raises(Corrupt, match="the layer is gone"):
        from_stream(enter(work, scratch), write, 0)


def test_a_writer_is_not_waited_for_when_tar_has_died(tmp_path: Path, scratch: Path) -> None:
    def killed() -> bool:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if path.read_bytes().startswith(b"tar\0--extract\0") and str(place).encode() in path.read_bytes():
                    os.kill(int(path.parent.name), signal.SIGKILL)
                    return True
        return False

    def write(target: BinaryIO) -> None:
        target.write(CONTENT[:1024])
        target.flush()
        eventually(killed)
        while True:
            target.write(CONTENT)

    library = Library(tmp_path / "library")
    library.create()
    with work_folder(library.layout) as work:
        namespace = enter(work, scratch)
        place = namespace.folder
        with pytest.raises(ProgramFailed):
            from_stream(namespace, write, 0)


def test_owners_above_65535_are_there_in_the_namespace(tmp_path: Path, scratch: Path) -> None:
    library = Library(tmp_path / "library")
    library.create()
    with work_folder(library.layout) as work:
        namespace = enter(work, scratch).having({0, 7, 4_294_967_294}, {70_000, 70_001})
        place = namespace.make("place")
        owner = f"touch {place}/a && chown 4294967294:70001 {place}/a && stat -c '%u %g' {place}/a"
        script = f"{owner} && id -u && id -g && cat /proc/$$/uid_map"
        with (tmp_path / "out").open("wb") as output:
            namespace.run(["sh", "-c", script], env={"PATH": "/usr/bin:/bin"}, stdout=output.fileno())
        lines = (tmp_path / "out").read_text().splitlines()
        assert lines[:3] == ["4294967294 70001", "0", "0"]
        assert [line.split()[0] for line in lines[3:]] == ["0", "7", "4294967294"]
        with pytest.raises(ProgramFailed):
            namespace.run(["sh", "-c", f"chown 8 {place}/a"], env={"PATH": "/usr/bin:/bin"})
