"""What the conformance suite needs of a batch system. Each system has an adapter; the suite knows no other word of it."""

from __future__ import annotations

import abc
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

from dayfly.machine.processes import Running, running


class State(StrEnum):
    """Where a job is."""

    WAITING = "waiting"
    RUNNING = "running"
    SUSPENDED = "suspended"
    ENDED = "ended"


class Why(StrEnum):
    """How the batch system says that a job ended."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    OUT_OF_TIME = "out of time"
    NODE = "node"


class Ability(StrEnum):
    """What not every batch system can do. docs/explanation/batch-systems.md says so for users."""

    INTERACTIVE = "run a command with the caller's streams"
    SIGNALS = "send a job a signal of its owner's choice"
    NEW_TIME_LIMIT = "change the time limit of a running job"
    MEMORY_LIMIT = "hold a job to the memory that it was given"


@dataclass(frozen=True)
class Ended:
    """A job's end: its exit code, or the signal that it died by (0: none)."""

    why: Why
    status: int
    signal: int


@dataclass(frozen=True)
class JobRequest:
    """What a job is submitted with. `image` None: nothing is said of one; memory in MiB; `array` is how many tasks."""

    image: str | None = "debian:12"
    queue: str = ""
    cpus: int = 1
    memory: int = 0
    tasks: int = 1
    array: int = 0
    node: str = ""
    shares: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    bare_environment: bool = False
    in_script: bool = False
    held: bool = False
    requeue: bool = False


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    status: int
    out: bytes
    err: str


class BatchSystem(abc.ABC):
    """A batch system on this host, with two nodes and Dayfly in it."""

    name: str
    cannot: ClassVar[Mapping[Ability, str]] = {}
    folder: Path
    work: Path
    user: str
    nodes: tuple[str, ...]

    @abc.abstractmethod
    def submit(self, script: str, wish: JobRequest = JobRequest()) -> str:
        """Submit a script as a job; its number. Fails with `Refusal` when the batch system refuses it."""

    @abc.abstractmethod
    def dayfly(self, *words: str) -> Ran:
        """Run the command `dayfly` as the user, where jobs are submitted."""

    @abc.abstractmethod
    def state(self, job: str) -> State:
        """Where the job is."""

    @abc.abstractmethod
    def ended(self, job: str, seconds: float = 240) -> Ended:
        """Wait for the job's end."""

    @abc.abstractmethod
    def until(self, job: str, state: State, seconds: float = 60) -> None:
        """Wait until the job is in this state."""

    @abc.abstractmethod
    def cancel(self, job: str) -> None:
        """End the job, as its owner."""

    @abc.abstractmethod
    def suspend(self, job: str) -> None:
        """Suspend the job, as the administrator."""

    @abc.abstractmethod
    def resume(self, job: str) -> None:
        """Let it go on."""

    @abc.abstractmethod
    def requeue(self, job: str) -> None:
        """Put a running job back into the queue."""

    @abc.abstractmethod
    def worker(self, job: str) -> int:
        """The process of the batch system on the node that looks after this one job."""

    @abc.abstractmethod
    def kill_daemon(self, node: str) -> None:
        """kill -9 of a node's daemon."""

    @abc.abstractmethod
    def start_daemon(self, node: str) -> None:
        """Start it again."""

    @abc.abstractmethod
    def fail_node(self, node: str) -> None:
        """End everything of the batch system and of its jobs on a node, as a node's restart does; it comes up again."""

    @abc.abstractmethod
    def until_idle(self, seconds: float = 60) -> None:
        """Wait until every node is ready for jobs and has none."""

    @abc.abstractmethod
    def settle(self) -> None:
        """End what a failed test left, and make the nodes ready for the next test."""

    @abc.abstractmethod
    def leftovers(self) -> list[str]:
        """What is there of jobs that have ended: processes, cgroups, files of the batch system."""

    @abc.abstractmethod
    def told_of(self, job: str) -> Mapping[str, str]:
        """What the batch system says of a job that has ended."""

    @abc.abstractmethod
    def neutral(self, text: str, job: str) -> str:
        """A text of a job's without the paths that have its number or its node in them."""

    def output(self, job: str, task: int = 0) -> bytes:
        """What a job wrote to stdout."""
        return (self.work / (f"{job}.{task}.out" if task else f"{job}.out")).read_bytes()

    def errors(self, job: str) -> str:
        """What a job wrote to stderr, and Dayfly."""
        return (self.work / f"{job}.err").read_text(errors="replace")

    def compile(self, source: str, name: str) -> None:
        """A static program in the jobs' working directory."""
        command = ["cc", "-static", "-x", "c", "-o", str(self.work / name), "-"]
        subprocess.run(command, input=source.encode(), check=True)

    def records(self) -> list[dict[str, Any]]:
        """All usage records."""
        return [json.loads(path.read_bytes()) for path in sorted((self.folder / "records").glob("*/*/*.json"))]

    def record(self, job: str) -> dict[str, Any]:
        """The usage record of a job's last machine."""
        found = [record for record in self.records() if record["batch"].get("job") == job]
        assert found, f"no record of job {job}"
        return max(found, key=lambda record: str(record["begun"]))

    def machines(self) -> list[Running]:
        """The machines of its jobs that run."""
        ours = {record["id"] for record in self.records()}
        return [machine for machine in running() if machine.identity in ours]

    def machine_of(self, job: str) -> Running | None:
        """A job's machine, if it runs."""
        ids = {record["id"] for record in self.records() if record["batch"].get("job") == job}
        return next((machine for machine in running() if machine.identity in ids), None)


class Interactive(abc.ABC):
    """`Ability.INTERACTIVE`."""

    @abc.abstractmethod
    def interactive(self, command: Sequence[str], wish: JobRequest = JobRequest(), stdin: bytes = b"") -> Ran:
        """Run a command as a job with the caller's streams."""


class Signals(abc.ABC):
    """`Ability.SIGNALS`."""

    @abc.abstractmethod
    def signal(self, job: str, name: str) -> None:
        """Send the job a signal, as its owner."""


class NewTimeLimit(abc.ABC):
    """`Ability.NEW_TIME_LIMIT`."""

    @abc.abstractmethod
    def leave(self, job: str, seconds: int) -> None:
        """Make a running job's time run out in so many seconds."""


class Refusal(Exception):
    """The batch system refused a job: what it said."""
