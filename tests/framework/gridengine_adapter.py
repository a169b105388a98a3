"""Grid Engine for the conformance suite."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from tests.framework.batch import Ability, BatchSystem, Ended, JobRequest, Ran, Refusal, State, Why
from tests.framework.gridengine import Grid
from tests.framework.installation import eventually

_JOB = re.compile(r"[0-9]+")


class GridEngine(BatchSystem):
    """The adapter over a running `Grid`."""

    name = "gridengine"
    cannot: ClassVar[Mapping[Ability, str]] = {
        Ability.INTERACTIVE: "the queues for machines are BATCH: qrsh goes through a daemon of its own",
        Ability.SIGNALS: "nobody can send a job a signal of their choice, -notify aside",
        Ability.NEW_TIME_LIMIT: "a running job's time limit cannot be changed",
        Ability.MEMORY_LIMIT: "nothing holds a job to its memory but limits of each process",
    }

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.folder = grid.folder
        self.work = grid.work
        self.user = grid.user
        self.nodes = grid.nodes
        self._cancelled: set[str] = set()

    def submit(self, script: str, wish: JobRequest = JobRequest()) -> str:  # noqa: B008
        options = self._options(wish)
        if wish.in_script:
            shebang, _, rest = script.partition("\n")
            script = "\n".join([shebang, *(f"#$ {' '.join(pair)}" for pair in options), rest])
            options = []
        words = [word for pair in options for word in pair]
        done = self.grid.run("qsub", "-terse", *words, stdin=script.encode(), extra=wish.environment)
        if done.status:
            raise Refusal(done.err)
        match = _JOB.match(done.out.decode())
        assert match, done
        return match[0]

    def _options(self, wish: JobRequest) -> list[tuple[str, ...]]:
        name = "$JOB_ID.$TASK_ID" if wish.array else "$JOB_ID"
        queue = (wish.queue or "request") + (f"@{wish.node}" if wish.node else "")
        slots = max(wish.cpus, wish.tasks)
        options: list[tuple[str, ...]] = [("-cwd",), ("-q", queue), ("-r", "y" if wish.requeue else "n")]
        options += [("-o", f"{name}.out"), ("-e", f"{name}.err"), ("-N", "job")]
        options += [("-l", f"vm_image={wish.image}")] if wish.image is not None else []
        options += [("-l", f"vm_share={share}") for share in wish.shares]
        options += [("-l", f"m_mem_free={wish.memory // slots}M")] if wish.memory else []
        options += [("-pe", "spread" if wish.tasks > 1 else "smp", str(slots))] if slots > 1 else []
        options += [("-t", f"1-{wish.array}")] if wish.array else []
        options += [("-h",)] if wish.held else []
        return options + ([] if wish.bare_environment else [("-V",)])

    def dayfly(self, *words: str) -> Ran:
        return self.grid.run(str(self.grid.program), *words, extra={"DAYFLY_SETTINGS": str(self.grid.users_settings)})

    def state(self, job: str) -> State:
        words = [line.split()[4] for line in self._listed() if line.split()[0] == job]
        if not words:
            return State.ENDED
        if all(word.lstrip("hR") == "qw" for word in words):
            return State.WAITING
        return State.SUSPENDED if any(set(word) & set("sST") for word in words) else State.RUNNING

    def _listed(self) -> list[str]:
        lines = self.grid.admin("qstat", "-u", "*").out.decode().splitlines()
        return [line for line in lines if line.split() and line.split()[0].isdecimal()]

    def ended(self, job: str, seconds: float = 240) -> Ended:
        eventually(lambda: self.state(job) is State.ENDED, f"job {job} has ended", seconds, self._listed)
        if job in self._cancelled:
            return Ended(Why.CANCELLED, 0, 0)
        eventually(lambda: self.account(job), f"job {job} is accounted for", 20)
        said = self.account(job)
        status = int(said["exit_status"].split()[0])
        number = status - 128 if 128 < status <= 192 else 0
        return Ended(Why.FAILED if status else Why.DONE, 0 if number else status, number)

    def account(self, job: str) -> dict[str, str]:
        """What qacct says of a job's last run; empty where it knows nothing yet."""
        text = self.grid.admin("qacct", "-j", job).out.decode()
        last = text.rpartition("=====\n")[2]
        return {line.split()[0]: line.partition(" ")[2].strip() for line in last.splitlines() if " " in line.strip()}

    def until(self, job: str, state: State, seconds: float = 60) -> None:
        eventually(lambda: self.state(job) is state, f"job {job} is {state}", seconds, self._listed)

    def cancel(self, job: str) -> None:
        done = self.grid.run("qdel", job)
        assert done.status == 0 or b"does not exist" in done.out, done  # it may just have ended
        self._cancelled.add(job)

    def suspend(self, job: str) -> None:
        done = self.grid.admin("qmod", "-sj", job)
        assert done.status == 0, done

    def resume(self, job: str) -> None:
        done = self.grid.admin("qmod", "-usj", job)
        assert done.status == 0, done

    def requeue(self, job: str) -> None:
        done = self.grid.admin("qmod", "-rj", job)
        assert done.status == 0, done

    def worker(self, job: str) -> int:
        (path,) = self.folder.glob(f"exec/*/active_jobs/{job}.*/pid")
        return int(path.read_text())

    def kill_daemon(self, node: str) -> None:
        self.grid.kill(node)

    def start_daemon(self, node: str) -> None:
        self.grid.start(node)

    def fail_node(self, node: str) -> None:
        self.grid.kill(node)
        holder = self.grid.hosts[node].pid
        network = Path(f"/proc/{holder}/ns/net").readlink()
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                if int(entry.name) != holder and (entry / "ns/net").readlink() == network:
                    os.kill(int(entry.name), signal.SIGKILL)
        self.grid.start(node)

    def until_idle(self, seconds: float = 60) -> None:
        self.grid.until_idle(seconds)

    def leftovers(self) -> list[str]:
        found = [f"process {pid}: {command}" for pid, command in self.grid.processes() if command.startswith("sge_shepherd")]
        return found + [str(path) for path in self.folder.glob("exec/*/active_jobs/*")]

    def told_of(self, job: str) -> Mapping[str, str]:
        return self.account(job)

    def neutral(self, text: str, job: str) -> str:
        return re.sub(rf"/({'|'.join(self.nodes)})/job_scripts/{job}\b", "/NODE/job_scripts/JOB", text)

    def settle(self) -> None:
        """End what a failed test left, and make the hosts ready for the next test."""
        left = self._listed()
        if left:
            self.grid.admin("qdel", "-u", self.grid.user)
        for node in self.nodes:
            if not Path(f"/proc/{self.grid.daemon(node)}").exists():
                self.grid.start(node)
        end = time.monotonic() + 30
        while left and time.monotonic() < end:
            time.sleep(0.05)
            left = self._listed()
        if any(self.grid.states().values()):
            self.grid.admin("qmod", "-cq", "*")
