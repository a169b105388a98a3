"""Containers from registries, by skopeo: it knows their protocol, tokens, credentials and certificates.

A registry is not trusted: what it says a container's size is bounds what is fetched, and silence ends the wait.
"""

from __future__ import annotations

import hashlib
import os
import re
import select
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dayfly import process
from dayfly.build.container import places
from dayfly.build.container.manifest import LIMIT, Manifest, parse_manifest
from dayfly.build.container.places import Container
from dayfly.build.container.source import Source
from dayfly.build.container.tree import Limits
from dayfly.errors import Corrupt, DayflyError, NotFound, Refused
from dayfly.image.reference import DEFAULT_TAG
from dayfly.units import format_duration, format_size

_PLATFORM = ("--override-os=linux", "--override-arch=amd64")
_SLACK = 1024**2
_TAIL = 8192
_LEAST = 64 * 1024
"""Bytes that have to come within the time of `Access.timeout`: less is as good as none."""

_FATAL = re.compile(r'level=(?:fatal|error) msg="((?:[^"\\]|\\.)*)"')
_POLICIES = ("~/.config/containers/policy.json", "/etc/containers/policy.json")
_CREDENTIALS = "log in with `skopeo login HOST` or `docker login HOST`, or name the file with your credentials by --auth-file"
_CAUSES = (
    (r"manifest unknown|name unknown|repository name not known|\b404\b", "see whether the name and the tag are right"),
    (r"unauthorized|authentication required|access to the resource is denied|invalid username|\b40[13]\b", _CREDENTIALS),
    (r"certificate|x509|tls:", "name the authority's certificate by --ca, or say --insecure when the network is trusted"),
    (r"server gave HTTP response to HTTPS client", "it speaks no TLS; --insecure says that this is meant"),
    (r"unsupported protocol scheme", "the registry sent us to an address that is none of a registry's"),
    (
        r"no such host|connection refused|timeout|unreachable",
        "see whether its name is right, and whether it can be reached from here",
    ),
)


@dataclass(frozen=True)
class Access:
    """How a registry is spoken to. `timeout` is in seconds: how long it may send (next to) nothing."""

    ca: Path | None = None
    auth_file: Path | None = None
    insecure: bool = False
    timeout: float = 60.0

    def options(self, prefix: str, certificates: Path) -> list[str]:
        """The options of a skopeo command, whose names begin with `prefix`."""
        options = [f"--{prefix}tls-verify=false"] if self.insecure else []
        options += [f"--{prefix}cert-dir={certificates}"] if self.ca else []
        return options + ([f"--{prefix}authfile={self.auth_file}"] if self.auth_file else [])


@dataclass(frozen=True)
class _Skopeo:
    """Skopeo in a folder of ours."""

    folder: Path
    access: Access
    host: str

    def run(self, words: Sequence[str], output: str, *, most: int, largest: int) -> bytes:
        """Run it to its end: what it wrote to `output`. No file may become larger than `largest`, all together `most` bytes."""
        policy = [] if any(Path(path).expanduser().exists() for path in _POLICIES) else ["--insecure-policy"]
        command = ["prlimit", f"--fsize={largest}", "--", process.find("skopeo"), *policy, *_PLATFORM, *words]
        written, complaints = self.folder / output, self.folder / "errors"
        with written.open("w+b") as out, complaints.open("w+b") as err:
            environment = {**os.environ, "TMPDIR": str(self.folder)}
            child = process.spawn(command, stdout=out.fileno(), stderr=err.fileno(), env=environment, grouped=True)
            try:
                problem = self._watch(child.pidfd, most)
            finally:
                child.kill_group()
                status, _ = child.wait()
        said = _end_of(complaints)
        if problem:
            raise problem
        if status != 0:
            raise self._failed(said, status)
        return written.read_bytes()

    def _watch(self, ended: int, most: int) -> DayflyError | None:
        """Wait for the end: why it was not waited for any longer, or None. Nothing tells of a file's growth but a look at it."""
        events = select.poll()
        events.register(ended, select.POLLIN)
        marked, since = 0, time.monotonic()
        while not events.poll(1000 * min(1.0, self.access.timeout)):
            size = _size_of(self.folder)
            if size > most:
                return Refused(f"{self.host} sent more than the {format_size(most)} that the container has by its manifest")
            if size - marked >= _LEAST:
                marked, since = size, time.monotonic()
            if time.monotonic() - since > self.access.timeout:
                waited = format_duration(self.access.timeout)
                return DayflyError(f"{self.host} sent nothing for {waited}", "try again later, or wait longer with --timeout")
        return None

    def _failed(self, said: str, status: int) -> DayflyError:
        found = _FATAL.findall(said)
        lines = said.strip().splitlines() or [f"it exited with {status}"]
        reason = found[-1].replace('\\"', '"').replace("\\n", " ") if found else lines[-1]
        reason = "".join(character if character.isprintable() else " " for character in reason[-600:])
        hint = next((hint for pattern, hint in _CAUSES if re.search(pattern, reason)), "")
        if status == -signal.SIGXFSZ or "file too large" in said:
            return Refused(f"{self.host} sent more than the container has by its manifest")
        kind = NotFound if hint == _CAUSES[0][1] else DayflyError
        return kind(f"skopeo cannot fetch from {self.host}: {reason}", hint.replace("HOST", self.host))


def _end_of(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(-min(_TAIL, path.stat().st_size), os.SEEK_END)
        return file.read().decode(errors="replace")


def _size_of(folder: Path) -> int:
    size = 0
    for path in folder.rglob("*"):
        try:
            size += path.lstat().st_size
        except FileNotFoundError:  # a file that has just got its name
            continue
    return size


def fetch(source: Source, access: Access, limits: Limits, folder: Path, progress: Callable[[str], None]) -> Container:
    """Fetch a container into a new folder.

    Raises `NotFound`, `Refused` for what is no container for this platform or larger than the limit, `DayflyError`.
    """
    process.find("skopeo")
    folder.mkdir()
    certificates = folder / "certificates"
    certificates.mkdir()
    if access.ca:
        shutil.copyfile(access.ca, certificates / "ca.crt")
    skopeo = _Skopeo(folder, access, source.host)
    progress(f"registry: looking for {source}")
    manifest, digest = _manifest(skopeo, source, limits, certificates)
    size = sum(piece.size for piece in (manifest.config, *manifest.layers))
    if size > limits.size:
        raise Refused(
            f"{source} is {format_size(size)}, more than the limit of {format_size(limits.size)}", "--max-size raises it"
        )
    progress(f"registry: fetching {len(manifest.layers)} layers, {format_size(size)}")
    target = folder / "container"
    words = ["copy", "--quiet", *access.options("src-", certificates), f"docker://{source.repository}@{digest}", f"dir:{target}"]
    largest = max(piece.size for piece in (manifest.config, *manifest.layers)) + _SLACK
    skopeo.run(words, "output", most=size + _SLACK * 8, largest=largest)
    return places.in_fetched(manifest, digest, target, str(source))


def _manifest(skopeo: _Skopeo, source: Source, limits: Limits, certificates: Path) -> tuple[Manifest, str]:
    """The manifest for this platform, and its digest."""
    expected = source.digest
    wanted = f"docker://{source.repository}{f'@{expected}' if expected else f':{source.tag or DEFAULT_TAG}'}"
    for attempt in range(places.DEPTH):
        words = ["inspect", "--raw", *skopeo.access.options("", certificates), wanted]
        content = skopeo.run(words, f"manifest{attempt}", most=16 * LIMIT, largest=2 * LIMIT)
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if expected and digest != expected:
            raise Corrupt(f"{skopeo.host} sent another manifest than {expected}")
        found = parse_manifest(content, str(source), limits.layers)
        if isinstance(found, Manifest):
            return found, digest
        expected = found.digest
        wanted = f"docker://{source.repository}@{expected}"
    raise Refused(f"{source} is more than {places.DEPTH} indexes deep")
