"""Runs skopeo, which implements the registry protocol, tokens, credentials and certificates.

A registry is not trusted: the size in its manifest limits what is fetched, and a silent registry is given up.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dayfly import inherited, process
from dayfly.errors import DayflyError, NotFound, Refused
from dayfly.notices import Notify, ignore
from dayfly.settings import home
from dayfly.units import format_duration, format_size

_PLATFORM = ("--override-os=linux", "--override-arch=amd64")
SLACK = 1024**2
"""Bytes that may be written in addition to the manifest's size."""
_TAIL = 8192
_LEAST = 64 * 1024
"""Bytes that must arrive within `Access.timeout`: fewer count as silence."""

PAUSES = (1.0, 2.0, 4.0)
"""Seconds before each retry after a temporary failure of a registry or the network. For rate limits (429), skopeo itself
retries.
"""
_PASSING = re.compile(
    r"(?:HTTP status|status code|HTTP code)[^0-9]{0,20}50[0234]\b|\b50[0234] (?:Internal|Bad Gateway|Service|Gateway)"
    r"|\bEOF\b|connection reset|broken pipe|server closed|use of closed network|TLS handshake timeout|i/o timeout"
)
_FATAL = re.compile(r'level=(?:fatal|error) msg="((?:[^"\\]|\\.)*)"')
_POLICIES = ("{home}/.config/containers/policy.json", "/etc/containers/policy.json")
_CREDENTIALS = "log in with `skopeo login HOST` or `docker login HOST`, or give the file with your credentials with --auth-file"
_CAUSES = (
    (r"manifest unknown|name unknown|repository name not known|\b404\b", "check the name and the tag"),
    (r"unauthorized|authentication required|access to the resource is denied|invalid username|\b40[13]\b", _CREDENTIALS),
    (r"certificate|x509|tls:", "give the authority's certificate with --ca, or use --insecure if the network is trusted"),
    (r"server gave HTTP response to HTTPS client", "it does not use TLS; --insecure allows that"),
    (r"unsupported protocol scheme", "the registry redirected to an unsupported address"),
    (
        r"no such host|connection refused|timeout|unreachable",
        "check its name, and whether it can be reached from here",
    ),
)


@dataclass(frozen=True)
class Access:
    """Access to a registry. `timeout` is in seconds: how long it may send (almost) nothing. `notify` receives retries."""

    ca: Path | None = None
    auth_file: Path | None = None
    insecure: bool = False
    timeout: float = 60.0
    notify: Notify = ignore

    def options(self, prefix: str, certificates: Path) -> list[str]:
        """The options of a skopeo command; their names begin with `prefix`."""
        options = [f"--{prefix}tls-verify=false"] if self.insecure else []
        options += [f"--{prefix}cert-dir={certificates}"] if self.ca else []
        return options + ([f"--{prefix}authfile={self.auth_file}"] if self.auth_file else [])


@dataclass(frozen=True)
class Skopeo:
    """Skopeo in a work folder. `again` is the hint after a temporary failure."""

    folder: Path
    access: Access
    host: str
    doing: str = "fetch from"
    silence: str = "sent nothing"
    again: str = "try again later"

    def options(self, prefix: str) -> list[str]:
        """The options of a command for the access to the registry; their names begin with `prefix`."""
        certificates = self.folder / "certificates"
        if self.access.ca and not certificates.exists():
            certificates.mkdir()
            shutil.copyfile(self.access.ca, certificates / "ca.crt")
        return self.access.options(prefix, certificates)

    def receive(self, words: Sequence[str], output: str, *, most: int, largest: int) -> bytes:
        """Run it to its end, and return what it wrote to `output`. No file may exceed `largest` bytes, all together
        `most` bytes.
        """
        return self._run(words, output, largest, lambda _: _size_of(self.folder), most)

    def send(self, words: Sequence[str], output: str, most: int = sys.maxsize) -> bytes:
        """Run it to its end, and return what it wrote to `output`. It may send at most `most` bytes."""
        return self._run(words, output, SLACK, _sent_by, most)

    def _run(self, words: Sequence[str], output: str, largest: int, moved: Callable[[int], int], most: int) -> bytes:
        """Run it, with a limited number of retries after temporary failures."""
        for pause in PAUSES:
            try:
                return self._attempt(words, output, largest, moved, most)
            except _Passing as error:
                self.access.notify(f"{error.message}; retrying")
                time.sleep(pause)
        try:
            return self._attempt(words, output, largest, moved, most)
        except _Passing as error:
            raise DayflyError(f"{error.message} (tried {len(PAUSES) + 1} times)", self.again) from error

    def _attempt(self, words: Sequence[str], output: str, largest: int, moved: Callable[[int], int], most: int) -> bytes:
        policy = [] if any(Path(path.format(home=home())).exists() for path in _POLICIES) else ["--insecure-policy"]
        command = ["prlimit", f"--fsize={largest}", "--", process.find("skopeo"), *policy, *_PLATFORM, *words]
        written, complaints = self.folder / output, self.folder / "errors"
        with written.open("w+b") as out, complaints.open("w+b") as err:
            settings: dict[str, Any] = {"env": self._environment(), "cwd": str(self.folder), "grouped": True}
            child = process.spawn(command, stdout=out.fileno(), stderr=err.fileno(), **settings)
            try:
                problem = self._watch(child.pidfd, lambda: moved(child.pid), most)
            finally:
                child.kill_group()
                status, _ = child.wait()
        said = _end_of(complaints)
        if problem:
            raise problem
        if status != 0:
            raise self._failed(said, status)
        return written.read_bytes()

    def _environment(self) -> dict[str, str]:
        named = os.environ.get("REGISTRY_AUTH_FILE", "")
        own = {"REGISTRY_AUTH_FILE": str(Path(named).absolute())} if named else {}
        callers = {os.fsdecode(name): os.fsdecode(value) for name, value in inherited.environment().items()}
        return {**callers, **own, "TMPDIR": str(self.folder)}

    def _watch(self, ended: int, moved: Callable[[], int], most: int) -> DayflyError | None:
        """Wait for the end; returns why the wait was given up, or None. The growth of files can only be polled."""
        events = select.poll()
        events.register(ended, select.POLLIN)
        marked, since = 0, time.monotonic()
        while not events.poll(1000 * min(1.0, self.access.timeout)):
            size = moved()
            if size > most:
                return Refused(f"{self.host} sent more than the {format_size(most)} in its manifest")
            if size - marked >= _LEAST:
                marked, since = size, time.monotonic()
            if time.monotonic() - since > self.access.timeout:
                waited = format_duration(self.access.timeout)
                return DayflyError(f"{self.host} {self.silence} for {waited}", f"{self.again}, or wait longer with --timeout")
        return None

    def _failed(self, said: str, status: int) -> DayflyError:
        found = _FATAL.findall(said)
        lines = said.strip().splitlines() or [f"it exited with {status}"]
        reason = found[-1].replace('\\"', '"').replace("\\n", " ") if found else lines[-1]
        reason = "".join(character if character.isprintable() else " " for character in reason[-600:])
        hint = next((hint for pattern, hint in _CAUSES if re.search(pattern, reason)), "")
        if status == -signal.SIGXFSZ or "file too large" in said:
            return Refused(f"{self.host} sent more than the size in its manifest")
        if _PASSING.search(reason):
            return _Passing(f"skopeo cannot {self.doing} {self.host}: {reason}")
        kind = NotFound if hint == _CAUSES[0][1] else DayflyError
        return kind(f"skopeo cannot {self.doing} {self.host}: {reason}", hint.replace("HOST", self.host))


class _Passing(DayflyError):
    """A temporary failure."""


def _end_of(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(-min(_TAIL, path.stat().st_size), os.SEEK_END)
        return file.read().decode(errors="replace")


def _size_of(folder: Path) -> int:
    size = 0
    for path in folder.rglob("*"):
        try:
            size += path.lstat().st_size
        except FileNotFoundError:  # the file was just renamed
            continue
    return size


def _sent_by(pid: int) -> int:
    """How many bytes a process has written, also to sockets (proc(5), `wchar`)."""
    try:
        lines = Path(f"/proc/{pid}/io").read_text(errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.partition(":")[2]) for line in lines if line.startswith("wchar:")), 0)
