"""A real Grid Engine on this host: a master and two execution hosts, each in network, UTS and mount namespaces of its own.

Grid Engine knows a host by its name and address, so each needs both. They are joined by a bridge in the master's namespace, and
reach nothing else. Everything is in one folder; the jobs are an ordinary user's.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.framework.batch import Ran
from tests.framework.installation import START_SECONDS, Installation, eventually, processes, run

PROGRAMS = Path("/usr/lib/gridengine")
DEFAULTS = Path("/usr/share/gridengine")
MASTER = "master"
_BOOTSTRAP = """\
admin_user              none
default_domain          none
ignore_fqdn             false
spooling_method         berkeleydb
spooling_lib            libspoolb
spooling_params         {folder}/spool/database
binary_path             {programs}
qmaster_spool_dir       {folder}/spool/qmaster
security_mode           none
listener_threads        2
worker_threads          2
scheduler_threads       1
"""
_FIRST_GROUP = 65000
_QUEUE = {
    "seq_no": "0",
    "load_thresholds": "NONE",
    "qtype": "BATCH",
    "slots": "4",
    "tmpdir": "/tmp",
    "shell": "/bin/sh",
    "shell_start_mode": "unix_behavior",
    "notify": "00:00:02",
    "rerun": "FALSE",
    "pe_list": "smp spread",
}
_PARALLEL = """\
pe_name            {name}
slots              999
user_lists         NONE
xuser_lists        NONE
start_proc_args    NONE
stop_proc_args     NONE
allocation_rule    {rule}
control_slaves     TRUE
job_is_first_task  TRUE
urgency_slots      min
accounting_summary FALSE
qsort_args         NONE
"""
_HOST = """\
mount --bind "$1/hosts" /etc/hosts && hostname "$2" && ip link set lo up && echo up && exec sleep infinity
"""


@dataclass
class Grid(Installation):
    """Grid Engine in a folder. Use it as `with Grid(…) as grid:`."""

    hosts: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        """SGE_ROOT."""
        return self.folder / "root"

    @property
    def environment(self) -> dict[str, str]:
        """What the user's commands run with."""
        return {**super().environment, **self._variables}

    @property
    def _variables(self) -> dict[str, str]:
        return {"SGE_ROOT": str(self.root), "SGE_CELL": "default", "SGE_QMASTER_PORT": "6444", "SGE_EXECD_PORT": "6445"}

    def __enter__(self) -> Grid:
        try:
            self._files()
            for number, name in enumerate((MASTER, *self.nodes), 1):
                self._host(name, number)
            self._database()
            self.start(MASTER)
            self._configure()
            for node in self.nodes:
                self.start(node)
            eventually(lambda: self._idle(), "all hosts are up", START_SECONDS, lambda: self.admin("qstat", "-f").out)
        except BaseException:
            self._show_logs()
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _files(self) -> None:
        self.install()
        for name in ("exec", "spool/qmaster/job_scripts", "spool/database", "root/default/common"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for name in ("bin", "lib", "util", "utilbin"):
            (self.root / name).symlink_to(Path("/var/lib/gridengine", name).resolve())
        common = self.root / "default/common"
        (common / "bootstrap").write_text(_BOOTSTRAP.format(folder=self.folder, programs=PROGRAMS))
        (common / "act_qmaster").write_text(f"{MASTER}\n")
        (common / "cluster_name").write_text("dayfly\n")
        lines = ["127.0.0.1 localhost", *(f"10.217.0.{number} {name}" for number, name in enumerate((MASTER, *self.nodes), 1))]
        (self.folder / "hosts").write_text("\n".join(lines) + "\n")

    def _host(self, name: str, number: int) -> None:
        """A host's namespaces, which live as long as the process in them."""
        inside = ["unshare", "--net", "--uts", "--mount", "--propagation", "private", "sh", "-c", _HOST, "sh", self.folder, name]
        holder = subprocess.Popen([*map(str, inside)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self.hosts[name] = holder
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"up\n", f"no namespaces for {name}"
        if name == MASTER:
            self._ip(MASTER, "link", "add", "bridge", "type", "bridge")
            device = "bridge"
        else:
            peer = ["peer", "name", "eth0", "netns", str(holder.pid)]
            self._ip(MASTER, "link", "add", f"to-{name}", "type", "veth", *peer)
            self._ip(MASTER, "link", "set", f"to-{name}", "master", "bridge", "up")
            device = "eth0"
        self._ip(name, "addr", "add", f"10.217.0.{number}/24", "dev", device)
        self._ip(name, "link", "set", device, "up")

    def _ip(self, host: str, *words: str) -> None:
        subprocess.run(["nsenter", "--target", str(self.hosts[host].pid), "--net", "ip", *words], check=True)

    def _database(self) -> None:
        self._on_master(str(PROGRAMS / "spoolinit"), "berkeleydb", "libspoolb", str(self.folder / "spool/database"), "init")
        text = (DEFAULTS / "default-configuration").read_text()
        changed = {"execd_spool_dir": str(self.folder / "exec"), "min_uid": "0", "min_gid": "0", "load_report_time": "00:00:02"}
        changed |= {"reporting_params": "accounting=true reporting=false flush_time=00:00:01 accounting_flush_time=00:00:00"}
        changed |= {"max_unheard": "00:00:10", "reschedule_unknown": "00:00:05", "finished_jobs": "1000"}
        for name, value in changed.items():
            text = re.sub(rf"^{name}\s.*$", f"{name} {value}", text, flags=re.MULTILINE)
        (self.folder / "global").write_text(text)
        for what, source in (
            ("configuration", self.folder / "global"),
            ("complexes", DEFAULTS / "util/resources/centry"),
            ("usersets", DEFAULTS / "util/resources/usersets"),
            ("managers", "root"),
        ):
            self._on_master(str(PROGRAMS / "spooldefaults"), what, str(source))

    def _on_master(self, *command: str) -> bytes:
        done = self.admin(*command)
        assert done.status == 0, (command, done.out, done.err)
        return done.out

    def _configure(self) -> None:
        eventually(lambda: self.admin("qconf", "-sss").status == 0, "the master answers", START_SECONDS)
        for number, node in enumerate(self.nodes):
            self._on_master("qconf", "-ah", node)
            self._on_master("qconf", "-as", node)
            # By its group of this range a host ends what is left of a job, and all hosts see the processes of this one.
            self._given("qconf", "-Aconf", node, f"gid_range {_FIRST_GROUP + 100 * number}-{_FIRST_GROUP + 100 * number + 99}\n")
        self._on_master("qconf", "-as", MASTER)
        for name, rule in (("smp", "$pe_slots"), ("spread", "1")):
            self._given("qconf", "-Ap", f"pe-{name}", _PARALLEL.format(name=name, rule=rule))
        template = self._on_master("qconf", "-sq").decode()
        for name in ("request", "always", "never"):
            values = {"qname": name, "hostlist": " ".join(self.nodes), **_QUEUE}
            text = template
            for key, value in values.items():
                text = re.sub(rf"^{key}\s.*$", f"{key} {value}", text, flags=re.MULTILINE)
            self._given("qconf", "-Aq", f"queue-{name}", text)
        scheduler = self._on_master("qconf", "-ssconf").decode()
        for key, value in (("schedule_interval", "0:0:1"), ("flush_submit_sec", "1"), ("flush_finish_sec", "1")):
            scheduler = re.sub(rf"^{key}\s.*$", f"{key} {value}", scheduler, flags=re.MULTILINE)
        self._given("qconf", "-Msconf", "scheduler", scheduler)
        self.setup()
        for node in self.nodes:
            self._on_master("qconf", "-aattr", "exechost", "complex_values", "m_mem_free=4000M", node)

    def setup(self) -> str:
        """What an administrator does to have Dayfly."""
        queues = [word for name in ("request", "always", "never") for word in ("--queue", name)]
        words = ["batch", "setup", "gridengine", "--apply", "--settings", str(self.settings), "--program", str(self.program)]
        return self._on_master(str(self.program), *words, *queues).decode()

    def _given(self, command: str, option: str, name: str, text: str) -> None:
        path = self.folder / "log" / name
        path.write_text(text)
        self._on_master(command, option, str(path))

    def start(self, name: str) -> None:
        """Start the master or a host's execution daemon. Both go into the background."""
        program = "sge_qmaster" if name == MASTER else "sge_execd"
        done = self.on(name, str(PROGRAMS / program))
        assert done.status == 0, done.err

    def daemon(self, name: str) -> int:
        """The process of the master or of a host's execution daemon."""
        place = "spool/qmaster/qmaster.pid" if name == MASTER else f"exec/{name}/execd.pid"
        return int((self.folder / place).read_text())

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """End a daemon by a signal, and wait until it is gone."""
        pid = self.daemon(name)
        os.kill(pid, number)
        eventually(lambda: not Path(f"/proc/{pid}").exists(), f"{name} is gone", 20)

    def on(self, host: str, *command: str, environment: Mapping[str, str] | None = None) -> Ran:
        """Run a command as root on a host."""
        return run(self._at(host, self.folder) + list(command), environment or {**os.environ, **self._variables}, self.folder)

    def admin(self, *command: str) -> Ran:
        """Run a command as root on the master."""
        return self.on(MASTER, *command)

    def run(self, *command: str, stdin: bytes = b"", extra: Mapping[str, str] | None = None, seconds: float = 120) -> Ran:
        """Run a command as the user, in the work folder, on the master."""
        return run(
            [*self.as_user(), *command],
            {**self.environment, **(extra or {})},
            self.work,
            stdin,
            seconds,
        )

    def as_user(self) -> list[str]:
        """What makes a command the user's, in the work folder on the master."""
        return [*self._at(MASTER, self.work), *self.become()]

    def _at(self, host: str, folder: Path) -> list[str]:
        pid = str(self.hosts[host].pid)
        return ["nsenter", "--target", pid, "--net", "--uts", "--mount", f"--wd={folder}"]

    def _idle(self) -> bool:
        return all(state == "" for state in self.states().values()) and len(self.states()) == len(self.nodes) * 3

    def states(self) -> dict[str, str]:
        """The state of each queue on each host: empty where it takes jobs, and has none."""
        found = {}
        for line in self.admin("qstat", "-f").out.decode().splitlines():
            words = line.split()
            if words and "@" in words[0]:
                _, used, _ = words[2].split("/")
                found[words[0]] = (words[5] if len(words) > 5 else "") or ("" if used == "0" else f"{used} jobs")
        return found

    def until_idle(self, seconds: float = 60) -> None:
        """Wait until every queue takes jobs and has none."""
        eventually(self._idle, "all hosts are idle", seconds, self.states)

    def processes(self) -> Iterator[tuple[int, str]]:
        """Every process of this Grid Engine and of its jobs, with its command."""
        return processes(f"SGE_ROOT={self.root}")

    def _show_logs(self) -> None:
        for path in (*self.folder.glob("exec/*/messages"), self.folder / "spool/qmaster/messages"):
            with contextlib.suppress(OSError):
                sys.stderr.write("\n".join([f"--- {path}", *path.read_text(errors="replace").splitlines()[-30:], ""]))

    def stop(self) -> None:
        """End the jobs, the daemons, what is left of both, and the hosts."""
        if MASTER in self.hosts:
            self.admin("qdel", "-f", "-u", self.user)
        for pid, _ in list(self.processes()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for holder in self.hosts.values():
            holder.kill()
            holder.communicate()
