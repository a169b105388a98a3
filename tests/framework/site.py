"""A Dayfly of the tests' own: settings, library, records and scratch in a folder, and the real command on it."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import qemu.qmp

import dayfly
from dayfly.image.work import OUTSIDE_PREFIX
from dayfly.machine.processes import Running, running

COMMAND = [sys.executable, "-m", "dayfly"]
SECONDS = 240.0
IMAGE = "user/debian:12"


@dataclass(frozen=True)
class Finished:
    """What a command left behind."""

    status: int
    out: bytes
    err: str
    seconds: float


@dataclass
class Site:
    """Where a test's Dayfly lives."""

    folder: Path
    library: Path
    templates: Path
    settings: dict[str, dict[str, str]] = field(default_factory=dict)
    command: list[str] = field(default_factory=lambda: list(COMMAND))
    run_options: tuple[str, ...] = ()
    """Put behind each `dayfly run`."""

    def __post_init__(self) -> None:
        self.work.mkdir(parents=True)
        self.scratch.mkdir()
        self.configure()

    @property
    def work(self) -> Path:
        """The working directory of its jobs."""
        return self.folder / "work"

    @property
    def scratch(self) -> Path:
        """Its scratch folder."""
        return self.folder / "scratch"

    @property
    def qemu(self) -> str:
        """The QEMU to test with."""
        return os.environ.get("DAYFLY_TEST_QEMU", "qemu-system-x86_64")

    def configure(self, **changes: str | None) -> None:
        """Write its settings; `machine_qemu="…"` changes one, None leaves it out."""
        values: dict[str, dict[str, str | None]] = {
            "library": {"user": str(self.library)},
            "records": {"folder": str(self.folder / "records")},
            "cache": {"folder": str(self.folder / "cache")},
            "templates": {"user": str(self.templates)},
            "scratch": {"folder": str(self.scratch), "size": "1G"},
            "machine": {"accelerator": "tcg", "qemu": self.qemu},
        }
        for name, value in changes.items():
            table, _, key = name.partition("_")
            values.setdefault(table, {})[key] = value
        lines = [
            f"[{table}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items() if value is not None)
            for table, keys in values.items()
        ]
        self.settings_file.write_text("".join(lines))

    @property
    def settings_file(self) -> Path:
        """Its settings."""
        return self.folder / "settings.toml"

    def give_to(self, uid: int) -> None:
        """Make this an ordinary user's site, with copies of the code and the library: where they are he may not read them."""
        code = self.folder / "code"
        for package in (Path(dayfly.__file__).parent, Path(qemu.qmp.__file__).parent.parent):
            shutil.copytree(package, code / package.name)
        copy_library(self.library, self.work / "library")
        self.library = self.work / "library"
        self.templates = self.folder / "cache/templates"
        self.configure()
        for path in (self.folder, *self.folder.rglob("*")):
            os.chown(path, uid, uid, follow_symlinks=False)
        for path in (self.folder, *self.folder.parents[:-1]):
            if path.stat().st_uid in (0, uid):
                path.chmod(path.stat().st_mode | 0o011)
        become = ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups"]
        self.command = [*become, "env", f"PYTHONPATH={code}", "HOME=/", os.path.realpath(sys.executable), "-m", "dayfly"]

    @property
    def networked(self) -> list[str]:
        """What to put before a job with a network: where a site has no policy, an image of one's own has that with root only."""
        return [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user"]

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of its commands."""
        return {**os.environ, "DAYFLY_SETTINGS": str(self.settings_file), **(extra or {})}

    def start(self, *words: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start `dayfly` with pipes on all streams, in the work folder; `options` are Popen's."""
        if words[:1] == ("run",):
            words = ("run", *self.run_options, *words[1:])
        settings: dict[str, Any] = {
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "cwd": self.work,
            "env": self.environment(options.pop("extra", None)),
        }
        return subprocess.Popen([*options.pop("before", []), *self.command, *words], **(settings | options))

    def dayfly(self, *words: str, stdin: bytes = b"", seconds: float = SECONDS, **options: Any) -> Finished:
        """Run `dayfly` to its end."""
        begun = time.monotonic()
        with self.start(*words, **options) as process:
            try:
                out, err = process.communicate(stdin, timeout=seconds)
            except BaseException:
                process.kill()
                raise
        return Finished(process.returncode, out or b"", (err or b"").decode(errors="replace"), time.monotonic() - begun)

    def run(self, *command: str, options: tuple[str, ...] = (), **more: Any) -> Finished:
        """`dayfly run IMAGE OPTIONS -- COMMAND`."""
        return self.dayfly("run", IMAGE, *options, "--", *command, **more)

    def shell(self, script: str, *options: str, **more: Any) -> Finished:
        """A shell script in a machine."""
        return self.run("sh", "-c", script, options=options, **more)

    def records(self) -> list[dict[str, Any]]:
        """Its usage records, oldest first, as programs get them."""
        listed = self.dayfly("usage", "list", "--json")
        assert listed.status == 0, listed.err
        records: list[dict[str, Any]] = json.loads(listed.out)
        return records

    def record(self) -> dict[str, Any]:
        """The last one."""
        return self.records()[-1]

    def machine_of(self, process: subprocess.Popen[bytes], seconds: float = 20) -> Running:
        """The machine that a started `dayfly` spawns."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for machine in running():
                if machine.owner == process.pid:
                    return machine
            assert process.poll() is None, process.stderr.read() if process.stderr else b""
            time.sleep(0.01)
        raise AssertionError("no machine was spawned")

    def leftovers(self) -> list[str]:
        """Everything of its machines that should not be there: processes, mounts, sockets, files."""
        records = {path.stem for path in (self.folder / "records").rglob("*.json")}
        found = [f"machine {machine.pid}" for machine in running() if machine.identity in records]
        found += [f"mount {mount}" for mount in sorted(mounts()) if mount.startswith(str(self.folder)) or OUTSIDE_PREFIX in mount]
        found += [f"socket {line}" for line in Path("/proc/net/unix").read_text().splitlines() if str(self.folder) in line]
        found += [f"file {path}" for path in self._files() if not self._belongs(path)]
        return found

    def _files(self) -> Iterator[Path]:
        for place in (self.folder, Path("/dev/shm")):
            yield from (path for path in place.rglob("*") if not path.is_dir() and self._ours(path))

    def _ours(self, path: Path) -> bool:
        return path.is_relative_to(self.folder) or "dayfly" in path.name

    def _belongs(self, path: Path) -> bool:
        top = path.relative_to(self.folder).parts[0] if path.is_relative_to(self.folder) else ""
        if top == "records":
            noted = path.is_relative_to(self.folder / "records/index") and path.stat().st_size == 0
            return noted or (path.suffix in (".json", ".console") and not path.name.startswith("."))
        if top == "cache":
            return not path.name.startswith(".")
        return top in ("work", "code", "settings.toml")


def copy_library(source: Path, target: Path) -> None:
    """A library with the one image of most tests, in files of its own."""
    (target / "blobs/sha256").mkdir(parents=True)
    shutil.copy(source / "oci-layout", target / "oci-layout")
    index = json.loads((source / "index.json").read_bytes())
    named = {"org.opencontainers.image.ref.name": IMAGE.removeprefix("user/")}
    index["manifests"] = [one for one in index["manifests"] if one.get("annotations") == named]
    (target / "index.json").write_text(json.dumps(index))

    def copied(blob: dict[str, Any]) -> Path:
        path: str = "blobs/sha256/" + blob["digest"].removeprefix("sha256:")
        shutil.copy(source / path, target / path)
        return target / path

    (entry,) = index["manifests"]
    manifest = json.loads(copied(entry).read_bytes())
    for blob in (manifest["config"], *manifest["layers"]):
        copied(blob)


def mounts() -> set[str]:
    """The mount points that this process sees."""
    return {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}


def kill(pid: int) -> None:
    """kill -9, of a process that may have ended."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def eventually(what: Any, seconds: float = 10) -> None:
    """Wait until `what()` is true; fail when it does not become so."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, f"{what} did not become true within {seconds} s"
        time.sleep(0.02)


def moments(rounds: int, seconds: float) -> Iterator[float]:
    """Moments that dice choose, one in each of so many parts of this time; others in each run of the tests."""
    for part in range(rounds):
        yield (part + random.random()) * seconds / rounds


def allowing(site: Site, origin: str) -> Path:
    """The file of a policy that allows what came in this way."""
    path = site.work / "policy.toml"
    path.write_text(f'[[rule]]\naction = "allow"\norigin = "{origin}"\n')
    return path
