"""A real Slurm on this host: munge, slurmctld and two slurmd, as root, with the jobs of an ordinary user.

Everything of it is in one folder. docs/how-to/use-with-slurm.md says what of its configuration a site needs.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.framework import slurm_accounting
from tests.framework.batch import Ran
from tests.framework.installation import START_SECONDS, Installation, eventually, processes, run

ROOT = Path(__file__).parent.parent.parent
CGROUPS = Path("/sys/fs/cgroup")
CONTROLLERS = ("cpuset", "memory", "freezer", "devices", "cpuacct")

_SLURM_CONF = """\
ClusterName=dayfly
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
AuthInfo=socket={folder}/munge/socket,cred_expire=10
SlurmUser=root
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/log/slurmctld
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdLogFile={folder}/log/slurmd.%n
SlurmdSpoolDir={folder}/spool.%n
SlurmctldDebug=verbose
SlurmdDebug=verbose
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=600
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup,task/affinity
JobAcctGatherType=jobacct_gather/cgroup
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/log/jobcomp
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,bf_interval=1
ReturnToService=2
MailProg=/bin/true
SlurmdTimeout=30
BatchStartTimeout=1
TaskProlog={folder}/task-prolog
KillWait=10
MpiDefault=none
NodeName={nodes} NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs=2 RealMemory=4000
PartitionName=request Nodes={nodes} Default=YES MaxTime=INFINITE OverSubscribe=NO
PartitionName=always Nodes={nodes} MaxTime=INFINITE
PartitionName=never Nodes={nodes} MaxTime=INFINITE
"""
_CGROUP_CONF = """\
CgroupPlugin=cgroup/v1
CgroupAutomount=no
CgroupMountpoint=/sys/fs/cgroup
ConstrainCores=yes
ConstrainRAMSpace=yes
ConstrainDevices=yes
"""
_TASK_PROLOG = """\
#!/bin/sh
# Says something to the tests that ask for it.
[ -n "$SLURM_ASKS_TASK_PROLOG" ] || exit 0
echo "export FROM_PROLOG=a b=c of $(id -un)"
echo unset TO_BE_REMOVED
echo print the site says hello
echo not understood
echo to stderr >&2
exit "$SLURM_ASKS_TASK_PROLOG"
"""


@dataclass
class Cluster(Installation):
    """Slurm in a folder. Use it as `with Cluster(…) as cluster:`."""

    port: int = field(default_factory=lambda: _free_ports(4))
    accounting: bool = False
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """What the user's commands run with."""
        return {**super().environment, "SLURM_CONF": str(self.conf)}

    @property
    def conf(self) -> Path:
        """Its slurm.conf."""
        return self.folder / "slurm.conf"

    def __enter__(self) -> Cluster:
        self._files()
        try:
            self._start_munge()
            if self.accounting:
                self._start_accounting()
            self.start("slurmctld")
            eventually(lambda: b"is UP" in self.admin("scontrol", "ping").out, "slurmctld answers", START_SECONDS)
            for node in self.nodes:  # one by one: a node that cannot register at once waits long before it tries again
                self.start(node)
                eventually(lambda node=node: self.states().get(node) == "IDLE", f"{node} is idle", START_SECONDS, self.states)
        except BaseException:
            self._show_logs()
            self.stop()
            raise
        return self

    def _show_logs(self) -> None:
        """What the daemons wrote last, for whoever wonders why they did not start."""
        for path in sorted((self.folder / "log").iterdir()):
            lines = path.read_text(errors="replace").splitlines()[-30:]
            sys.stderr.write("\n".join([f"--- {path.name}", *lines, ""]))

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _files(self) -> None:
        self.install()
        for name in ("state", "munge", *(f"spool.{node}" for node in self.nodes)):
            (self.folder / name).mkdir(exist_ok=True)
        places = {
            "host": socket.gethostname().partition(".")[0],
            "folder": self.folder,
            "port": self.port,
            "first": self.port + 1,
            "last": self.port + len(self.nodes),
            "nodes": ",".join(self.nodes),
        }
        accounting = slurm_accounting.slurm_conf(self.port + 3, self.folder / "munge/socket") if self.accounting else ""
        self.conf.write_text(_SLURM_CONF.format(**places) + accounting)
        (self.folder / "cgroup.conf").write_text(_CGROUP_CONF)
        (self.folder / "task-prolog").write_text(_TASK_PROLOG)
        (self.folder / "task-prolog").chmod(0o755)
        self._set_up()

    def _set_up(self) -> None:
        """The plugin, and what makes Slurm know it."""
        subprocess.run(["make", "-s", "-C", ROOT / "spank", f"BUILD={self.folder}/plugin"], check=True)
        setup: list[object] = [self.program, "batch", "setup", "slurm", "--settings", self.settings]
        plugin: list[object] = ["--plugin", self.folder / "plugin/dayfly_spank.so", "--program", self.program]
        apply = [*map(str, [*setup, *plugin]), "--apply", "--conf", str(self.conf)]
        subprocess.run(apply, check=True, stdout=subprocess.DEVNULL)

    def _start_munge(self) -> None:
        munge = self.folder / "munge"
        key = munge / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        owner = pwd.getpwnam("munge")
        for path in (munge, key):
            os.chown(path, owner.pw_uid, owner.pw_gid)
        become = ["setpriv", "--reuid=munge", "--regid=munge", "--clear-groups"]
        places = [f"--{name}-file={munge}/{name}" for name in ("key", "pid", "log", "seed")]
        munged = ["munged", "--foreground", "--force", *places, f"--socket={munge}/socket"]
        self._spawn("munged", [*become, *munged])
        eventually(lambda: (munge / "socket").exists(), "munged listens")

    def _start_accounting(self) -> None:
        place = self.folder / "database"
        self._spawn("mariadbd", slurm_accounting.database(place))
        eventually((place / "socket").exists, "the database listens", START_SECONDS)
        slurm_accounting.write_slurmdbd_conf(self.folder, self.port + 3, self.folder / "munge/socket")
        self._spawn("slurmdbd", ["slurmdbd", "-D"], MYSQL_UNIX_PORT=str(place / "socket"))
        add = ["sacctmgr", "--immediate", "add", "cluster", "dayfly"]
        eventually(lambda: self.admin(*add).status == 0, "slurmdbd answers", START_SECONDS, lambda: self.admin(*add))

    def start(self, name: str) -> None:
        """Start `slurmctld` or a node's slurmd."""
        if name == "slurmctld":
            self._spawn(name, ["slurmctld", "-D", "-f", str(self.conf)])
        else:
            self._spawn(name, ["slurmd", "-D", "-N", name, "-f", str(self.conf)])

    def _spawn(self, name: str, command: list[str], **variables: str) -> None:
        environment = {**os.environ, **variables, "SLURM_CONF": str(self.conf)}
        with (self.folder / "log" / f"{name}.out").open("ab") as log:
            self.daemons[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """End a daemon by a signal, and wait until it is gone."""
        daemon = self.daemons.pop(name)
        daemon.send_signal(number)
        daemon.wait(20)

    def until_idle(self, seconds: float = 60) -> None:
        """Wait until every node is idle."""
        eventually(lambda: set(self.states().values()) == {"IDLE"}, "all nodes are idle", seconds, self.states)

    def states(self) -> dict[str, str]:
        """Each node's state."""
        lines = self.admin("scontrol", "show", "node", "-o").out.decode().splitlines()
        fields = [dict(word.partition("=")[::2] for word in line.split()) for line in lines]
        return {line["NodeName"]: line["State"] for line in fields if "NodeName" in line}

    def job(self, number: str) -> dict[str, str]:
        """What `scontrol show job` says; empty when Slurm does not know the job."""
        lines = self.admin("scontrol", "show", "job", "-o", number).out.decode().splitlines()
        return dict(word.partition("=")[::2] for word in lines[0].split()) if lines else {}

    def admin(self, *command: str) -> Ran:
        """Run a command as root."""
        return run(list(command), {**os.environ, "SLURM_CONF": str(self.conf)}, self.folder)

    def run(self, *command: str | bytes, stdin: bytes = b"", extra: Mapping[str, str] | None = None, seconds: float = 120) -> Ran:
        """Run a command as the user, in the work folder."""
        return run([*self.become(), *command], {**self.environment, **(extra or {})}, self.work, stdin, seconds)

    def popen(self, *command: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start a command as the user, in the work folder."""
        settings: dict[str, Any] = {"env": self.environment, "cwd": self.work}
        return subprocess.Popen([*self.become(), *command], **(settings | options))

    def processes(self) -> Iterator[tuple[int, str]]:
        """Every process of this cluster and of its jobs, with its command."""
        return processes(f"SLURM_CONF={self.conf}")

    def stop(self) -> None:
        """End the jobs, then the daemons, then what is left of both, and its cgroups."""
        if "slurmctld" in self.daemons:
            self.admin("scancel", "--user", self.user)
            with contextlib.suppress(AssertionError):
                eventually(lambda: not self.admin("squeue", "-h").out, "all jobs have ended", 15)
        for name in reversed(list(self.daemons)):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.kill(name, signal.SIGTERM)
        for pid, _ in list(self.processes()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for controller in CONTROLLERS:
            for node in (*(f"slurm_{node}" for node in self.nodes), "slurm"):
                _remove_cgroup(CGROUPS / controller / node)


def _free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody listens on."""
    for first in range(16820, 20000, count):
        try:
            for port in range(first, first + count):
                with socket.create_server(("127.0.0.1", port)):
                    pass
        except OSError:
            continue
        return first
    raise AssertionError("no free ports")


def _remove_cgroup(top: Path) -> None:
    for path, _, _ in os.walk(top, topdown=False):
        with contextlib.suppress(OSError):
            Path(path).rmdir()
