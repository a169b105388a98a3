"""The store of detached machines: one file for each, for as long as its keeper lives (docs/decisions/0171).

Other processes find the machines here, also those that start later. A file that its keeper could not remove, because it was
killed or the host went down, is recognised and removed by whoever reads the folder next.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from dayfly import disknames, files
from dayfly.errors import Refused
from dayfly.machine import serialized
from dayfly.machine.config import MachineConfig
from dayfly.settings import xdg
from dayfly.values import dataclass

VERSION = 1
_LIMIT = 1024 * 1024
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_START_TIME = 19
"""The field `starttime` of /proc/PID/stat (proc(5)), counted from the one after the command's name."""


@dataclass(frozen=True)
class Keeper:
    """A process, by what no other process can have: the host, its boot, the process id and when it started.

    `started` is in clock ticks since the boot, as the kernel counts them.
    """

    host: str
    boot: str
    pid: int
    started: int


@dataclass(frozen=True)
class Instance:
    """A detached machine: its configuration, the keeper that it belongs to, and when it began, in seconds since the epoch."""

    config: MachineConfig
    keeper: Keeper
    begun: float


class Instances:
    """A user's folder of detached machines: `ID.json`, locked by the machine's keeper."""

    def __init__(self, folder: Path | None = None) -> None:
        """The calling user's own folder, where none is named."""
        self._folder = folder or xdg("XDG_STATE_HOME", ".local/state") / "dayfly" / disknames.INSTANCES

    @contextlib.contextmanager
    def keeping(self, config: MachineConfig) -> Iterator[Instance]:
        """List a machine whose keeper is this process, until the end of the block. Raises `NoSpace`."""
        keeper = keeper_of(os.getpid())
        assert keeper is not None  # noqa: S101 (this process is there)
        instance = Instance(config, keeper, time.time())
        path = self._path(config.identity)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with files.drafting(self._folder, 0o600) as draft:
            fcntl.flock(draft.descriptor, fcntl.LOCK_EX)
            files.write_all(draft.descriptor, render(instance))
            draft.publish(path, 0o600, durable=False)
            try:
                yield instance
            finally:
                path.unlink(missing_ok=True)

    def all(self) -> list[Instance]:
        """The machines of this host whose keeper lives, oldest first."""
        found = [self._read(path) for path in self._folder.glob(f"*{disknames.INSTANCE_SUFFIX}")]
        return sorted((instance for instance in found if instance), key=lambda instance: instance.begun)

    def _path(self, identity: str) -> Path:
        return self._folder / f"{identity}{disknames.INSTANCE_SUFFIX}"

    def _read(self, path: Path) -> Instance | None:
        try:
            instance = parse(files.read(path, _LIMIT))
        except (Refused, OSError):  # not ours, or gone meanwhile
            return None
        keeper = instance.keeper
        if keeper.host != os.uname().nodename or path != self._path(instance.config.identity):
            return None
        if keeper_of(keeper.pid) == keeper:
            return instance
        self._remove(path)
        return None

    @staticmethod
    def _remove(path: Path) -> None:
        """Remove the file of a keeper that is gone: nobody holds its lock any more."""
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                if files.unused(descriptor):
                    path.unlink()
            finally:
                os.close(descriptor)


def keeper_of(pid: int) -> Keeper | None:
    """The process of this host that has this number now; None: there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return Keeper(os.uname().nodename, _BOOT_ID.read_text().strip(), pid, int(fields[_START_TIME]))


def render(instance: Instance) -> bytes:
    """An instance as JSON."""
    keeper = instance.keeper
    fields = {
        "version": VERSION,
        "keeper": {"host": keeper.host, "boot": keeper.boot, "pid": keeper.pid, "started": keeper.started},
        "begun": instance.begun,
        "config": serialized.render(instance.config),
    }
    return (json.dumps(fields, indent=1) + "\n").encode()


def parse(text: bytes) -> Instance:
    """Read what `render` wrote. Raises `Refused` for anything else."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused(f"not an instance: {error}") from error
    if not isinstance(fields, dict) or fields.keys() != {"version", "keeper", "begun", "config"} or fields["version"] != VERSION:
        raise Refused(f"not an instance of version {VERSION}")
    begun = fields["begun"]
    if not isinstance(begun, float) or not 0 <= begun < 1 << 40:
        raise Refused("the time at which an instance began is not a number of seconds")
    return Instance(serialized.parse(fields["config"]), _keeper(fields["keeper"]), begun)


def _keeper(value: object) -> Keeper:
    if not isinstance(value, Mapping) or value.keys() != {"host", "boot", "pid", "started"}:
        raise Refused("the keeper of an instance is not one")
    host, boot, pid, started = value["host"], value["boot"], value["pid"], value["started"]
    if not (isinstance(host, str) and isinstance(boot, str) and type(pid) is int and type(started) is int):
        raise Refused("the keeper of an instance is not one")
    return Keeper(host, boot, pid, started)
