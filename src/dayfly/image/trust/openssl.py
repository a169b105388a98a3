"""The program openssl, with its files in memory and without the caller's environment."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from dayfly import files, process
from dayfly.errors import Refused
from dayfly.process import Completed

KEY_LIMIT = 64 * 1024
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}


class Memory:
    """Files in memory that openssl reads and writes, and other resources, until the end of the block."""

    def __init__(self) -> None:
        self.stack = contextlib.ExitStack()
        self.descriptors: list[int] = []

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def file(self, content: bytes = b"") -> str:
        """The path of a new file, for openssl."""
        descriptor = os.memfd_create("dayfly-trust", os.MFD_CLOEXEC)
        self.stack.callback(os.close, descriptor)
        self.descriptors.append(descriptor)
        files.write_all(descriptor, content)
        return f"/proc/self/fd/{descriptor}"

    def run(
        self, words: Sequence[str], *, check: bool = True, progress: Callable[[str], None] | None = None, hint: str = ""
    ) -> Completed:
        """Run openssl with these files, and without the caller's variables."""
        command = ["openssl", *words]
        return process.run(command, env=_ENVIRONMENT, keep=self.descriptors, check=check, progress=progress, hint=hint)

    def content(self, path: str, limit: int) -> bytes:
        """A file's content. Raises `Refused` if it is larger than `limit`."""
        return files.read(Path(path), limit)


def public_key(path: Path) -> str:
    """A public key from a PEM file. Raises `Refused` for anything but ECDSA over P-256, which cosign uses."""
    pem = files.read(path, KEY_LIMIT)
    with Memory() as memory:
        done = memory.run(["pkey", "-pubin", "-in", memory.file(pem), "-text_pub"], check=False)
    text = done.output.decode(errors="replace")
    if done.status != 0 or "prime256v1" not in text:
        raise Refused(f"{path} is not a public key of ECDSA over P-256", "`cosign generate-key-pair` writes one to cosign.pub")
    begin = text.index("-----BEGIN PUBLIC KEY-----")
    return text[begin : text.index("-----END PUBLIC KEY-----")] + "-----END PUBLIC KEY-----\n"


def certificates(path: Path) -> str:
    """The certificates in a PEM file. Raises `Refused` if there is none."""
    found = CERTIFICATE.findall(files.read(path, KEY_LIMIT).decode(errors="replace"))
    if not found:
        raise Refused(f"{path} has no certificate in it", "use PEM: -----BEGIN CERTIFICATE-----")
    return "".join(f"{one}\n" for one in found)


def holds(pem: str, content: bytes, signature: bytes) -> bool:
    """Whether a public key (PEM) has signed the sha256 of the content."""
    with Memory() as memory:
        words = ["dgst", "-sha256", "-verify", memory.file(pem.encode()), "-signature", memory.file(signature)]
        return memory.run([*words, memory.file(content)], check=False).status == 0
