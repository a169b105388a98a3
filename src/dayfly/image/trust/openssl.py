"""The program openssl, with its files in memory and nothing of the caller's environment."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from dayfly import files, process
from dayfly.process import Completed

_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}


class Memory:
    """Files in memory that openssl reads and writes, and what else is gone at the end of the block."""

    def __init__(self) -> None:
        self.stack = contextlib.ExitStack()
        self.descriptors: list[int] = []

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def file(self, content: bytes = b"") -> str:
        """The path of a new one, as openssl sees it."""
        descriptor = os.memfd_create("dayfly-trust", os.MFD_CLOEXEC)
        self.stack.callback(os.close, descriptor)
        self.descriptors.append(descriptor)
        files.write_all(descriptor, content)
        return f"/proc/self/fd/{descriptor}"

    def run(
        self, words: Sequence[str], *, check: bool = True, progress: Callable[[str], None] | None = None, hint: str = ""
    ) -> Completed:
        """Run openssl with them, and with none of the caller's variables."""
        command = ["openssl", *words]
        return process.run(command, env=_ENVIRONMENT, keep=self.descriptors, check=check, progress=progress, hint=hint)

    def content(self, path: str, limit: int) -> bytes:
        """What is in one. Raises `Refused` when that is too much."""
        return files.read(Path(path), limit)
