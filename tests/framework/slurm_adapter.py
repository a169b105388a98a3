"""Slurm, as the conformance suite sees batch systems."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.framework.batch import BatchSystem, Ended, Interactive, JobRequest, NewTimeLimit, Ran, Refusal, Signals, State, Why
from tests.framework.installation import eventually
from tests.framework.slurm import CGROUPS, Cluster

_STATES = {
    "PENDING": State.WAITING,
    "CONFIGURING": State.WAITING,
    "REQUEUED": State.WAITING,
    "RUNNING": State.RUNNING,
    "COMPLETING": State.RUNNING,
    "SIGNALING": State.RUNNING,
    "SUSPENDED": State.SUSPENDED,
}
_ENDS = {
    "COMPLETED": Why.DONE,
    "FAILED": Why.FAILED,
    "OUT_OF_MEMORY": Why.FAILED,
    "CANCELLED": Why.CANCELLED,
    "TIMEOUT": Why.OUT_OF_TIME,
    "NODE_FAIL": Why.NODE,
}


class Slurm(BatchSystem, Interactive, Signals, NewTimeLimit):
    """The adapter over a running `Cluster`."""

    name = "slurm"

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.folder = cluster.folder
        self.work = cluster.work
        self.user = cluster.user
        self.nodes = cluster.nodes
        self._put_back: dict[tuple[str, str], float] = {}

    @staticmethod
    def _options(wish: JobRequest) -> list[str]:
        options = [f"--cpus-per-task={wish.cpus}", f"--ntasks={wish.tasks}"]
        options += [f"--vm-image={wish.image}"] if wish.image is not None else []
        options += [f"--partition={wish.queue}"] if wish.queue else []
        options += [f"--mem={wish.memory}"] if wish.memory else []
        options += [f"--nodelist={wish.node}"] if wish.node else []
        options += [f"--vm-share={','.join(wish.shares)}"] if wish.shares else []
        return options

    def submit(self, script: str, wish: JobRequest = JobRequest()) -> str:  # noqa: B008
        options = self._options(wish)
        options += [f"--array=1-{wish.array}", "--output=%A.%a.out", "--error=%A.%a.err"] if wish.array else []
        options += [] if wish.array else ["--output=%j.out", "--error=%j.err"]
        options += ["--export=NONE"] if wish.bare_environment else []
        options += ["--hold"] if wish.held else []
        options += ["--requeue", "--open-mode=append"] if wish.requeue else ["--no-requeue"]
        if wish.in_script:
            shebang, _, rest = script.partition("\n")
            script = "\n".join([shebang, *(f"#SBATCH {option}" for option in options), rest])
            options = []
        done = self.cluster.run("sbatch", "--parsable", *options, stdin=script.encode(), extra=wish.environment)
        if done.status:
            raise Refusal(done.err)
        return done.out.decode().strip()

    def interactive(self, command: Sequence[str], wish: JobRequest = JobRequest(), stdin: bytes = b"") -> Ran:  # noqa: B008
        return self.cluster.run("srun", *self._options(wish), *command, stdin=stdin, extra=wish.environment)

    def dayfly(self, *words: str) -> Ran:
        settings = {"DAYFLY_SETTINGS": str(self.cluster.users_settings)}
        return self.cluster.run(str(self.cluster.folder / "dayfly"), *words, extra=settings)

    def state(self, job: str) -> State:
        word = self.cluster.job(job)["JobState"]
        return State.ENDED if word in _ENDS else _STATES[word]

    def ended(self, job: str, seconds: float = 240) -> Ended:
        eventually(lambda: self._over(job), f"job {job} has ended", seconds, lambda: self.cluster.job(job))
        fields = self.cluster.job(job)
        status, _, number = fields["ExitCode"].partition(":")
        return Ended(_ENDS[fields["JobState"]], int(status), int(number))

    def _over(self, job: str) -> bool:
        """Whether it has ended. Slurm lets what was put back wait for two minutes.

        Here it waits for two seconds after nothing of it runs any more: a node refuses a job that begins in the second in which
        it was ended there.
        """
        fields = self.cluster.job(job)
        if fields["JobState"] == "PENDING" and fields["Restarts"] != "0" and not self._workers(job):
            put_back = self._put_back.setdefault((job, fields["Restarts"]), time.monotonic())
            if time.monotonic() - put_back > 2:
                self.cluster.admin("scontrol", "update", f"JobId={job}", "StartTime=now")
        return self.state(job) is State.ENDED

    def until(self, job: str, state: State, seconds: float = 60) -> None:
        eventually(lambda: self.state(job) is state, f"job {job} is {state}", seconds, lambda: self.cluster.job(job))

    def cancel(self, job: str) -> None:
        assert self.cluster.run("scancel", job).status == 0

    def signal(self, job: str, name: str) -> None:
        assert self.cluster.run("scancel", "--batch", f"--signal={name}", job).status == 0

    def suspend(self, job: str) -> None:
        done = self.cluster.admin("scontrol", "suspend", job)
        assert done.status == 0, done.err

    def resume(self, job: str) -> None:
        done = self.cluster.admin("scontrol", "resume", job)
        assert done.status == 0, done.err

    def requeue(self, job: str) -> None:
        done = self.cluster.admin("scontrol", "requeue", job)
        assert done.status == 0, done.err

    def leave(self, job: str, seconds: int) -> None:
        done = self.cluster.admin("scontrol", "update", f"JobId={job}", f"EndTime=now+{seconds}seconds")
        assert done.status == 0, done.err

    def worker(self, job: str) -> int:
        (pid,) = self._workers(job)
        return pid

    def _workers(self, job: str) -> list[int]:
        return [pid for pid, command in self.cluster.processes() if re.match(rf"slurmstepd: \[{job}\.", command)]

    def kill_daemon(self, node: str) -> None:
        self.cluster.kill(node)

    def start_daemon(self, node: str) -> None:
        self.cluster.start(node)

    def fail_node(self, node: str) -> None:
        self.cluster.kill(node)
        there = [pid for pid, _ in self.cluster.processes() if self._is_on(pid, node)]
        assert there, f"nothing runs on {node}"
        for pid in there:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # When the node comes up, slurmctld misses no batch job that it has heard of within BatchStartTimeout and ten seconds, and
        # it hears of jobs whenever it asks a node for them.
        time.sleep(12)
        self.cluster.start(node)

    @staticmethod
    def _is_on(pid: int, node: str) -> bool:
        with contextlib.suppress(OSError):
            return f"/slurm_{node}/" in Path(f"/proc/{pid}/cgroup").read_text()
        return False

    def until_idle(self, seconds: float = 60) -> None:
        self.cluster.until_idle(seconds)

    def leftovers(self) -> list[str]:
        found = [f"process {pid}: {command}" for pid, command in self.cluster.processes() if command.startswith("slurmstepd")]
        for node in self.nodes:
            # A killed slurmstepd leaves its empty cgroups behind, of any job.
            for processes in (CGROUPS / "freezer" / f"slurm_{node}").glob("uid_*/job_*/**/cgroup.procs"):
                with contextlib.suppress(OSError):
                    found += [f"process {pid} in {processes.parent}" for pid in processes.read_text().split()]
            found += [str(path) for path in (self.folder / f"spool.{node}").glob("job*")]
        return found

    def told_of(self, job: str) -> Mapping[str, str]:
        return self.cluster.job(job)

    def neutral(self, text: str, job: str) -> str:
        text = text.replace(f"job{int(job):05d}", "JOB")
        return re.sub(rf"\.({'|'.join(self.nodes)})/", ".NODE/", text)

    def settle(self) -> None:
        """Wait until no job is left, cancelling what a failed test left, and the nodes are ready for the next test."""
        self.cluster.admin("scancel", "--user", self.cluster.user)
        for node in self.nodes:
            if node not in self.cluster.daemons:
                self.cluster.start(node)
        end = time.monotonic() + 30
        while self.cluster.admin("squeue", "-h").out and time.monotonic() < end:
            time.sleep(0.05)
