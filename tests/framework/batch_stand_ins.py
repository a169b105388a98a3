"""Batch systems that are not where the tests run: commands that take a job and answer, and a daemon that starts it.

The commands keep what they are given, and answer with what stands in files. Here is the rest: the directives are read as the
batch system reads them, and each task is started as its daemon would start it, with our hook in its place. None of it schedules
anything.
"""

from __future__ import annotations

import os
import re
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from tests.framework import condor
from tests.framework.directives import of_pbs
from tests.framework.hooks import Launched, by_htcondor, by_pbs, by_torque, program
from tests.framework.site import Finished, Site

_QSUB = """\
cat >{spool}/script
pwd >{spool}/workdir
if [ -s {spool}/refusal ]; then cat {spool}/refusal >&2; exit 1; fi
if grep -q '^#PBS -[Jt] ' {spool}/script; then echo '42[].head'; else echo 42.head; fi
"""
_ANSWER = """\
echo "$@" >>{spool}/asked
cat {spool}/answer
exit "$(cat {spool}/status)"
"""
_QSTAT = 'case " $* " in *" -x "*) cat {spool}/history; exit 0 ;; esac\n' + _ANSWER
_CONDOR_SUBMIT = """\
[ "$*" = "-terse -" ] || exit 2
cat >{spool}/script
if [ -s {spool}/refusal ]; then cat {spool}/refusal >&2; exit 1; fi
echo "42.0 - 42.$(($(sed -n 's/^queue //p' {spool}/script) - 1))"
"""


@dataclass(frozen=True)
class Task:
    """One task as the daemon starts it: where, and where its output goes. `index` is that of an array, or 0."""

    launched: Launched
    directory: Path
    output: Path
    errors: Path
    index: int


class StandIn(ABC):
    """One batch system, with room for one job."""

    name: str
    commands: ClassVar[dict[str, str]]
    job: str
    """What a job is called, and an array, at the end of its id."""
    array: str

    def __init__(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        self.site = site
        self._monkeypatch = monkeypatch
        self._programs, self._spool, self.home = (site.work / name for name in ("bin", "spool", "home"))
        for folder in (self._programs, self._spool, self.home):
            folder.mkdir()
        for name, text in self.commands.items():
            program(self._programs / name, "#!/bin/sh\n" + text.format(spool=self._spool))
        self.says("")

    def says(self, answer: str, status: int = 0, history: str = "") -> None:
        """What the batch system answers from now on, to who asks for a job, and for one that has ended."""
        for name, text in (("answer", answer), ("status", str(status)), ("history", history)):
            (self._spool / name).write_text(text)

    def refuses(self, why: str) -> None:
        """Take no more jobs."""
        (self._spool / "refusal").write_text(why)

    @property
    def asked(self) -> list[str]:
        """What it was asked so far."""
        return (self._spool / "asked").read_text().splitlines()

    @property
    def script(self) -> str:
        """What it was given."""
        return (self._spool / "script").read_text()

    @property
    def workdir(self) -> Path:
        """Where the command was that gave it."""
        return Path((self._spool / "workdir").read_text().strip())

    def dayfly(self, *words: str, **extra: str) -> Finished:
        """Run `dayfly` on a host with this batch system's commands."""
        return self.site.dayfly(*words, extra={"PATH": f"{self._programs}:{os.environ['PATH']}", **extra})

    def submit(self, description: Path, *words: str) -> Finished:
        """Submit a job to it: the tests' host may have other batch systems, real ones."""
        return self.dayfly("submit", "--batch", self.name, *words, str(description))

    def start(self, task: Task) -> subprocess.Popen[bytes]:
        """Start a task. PBS and Torque join its streams where `-j oe` says so."""
        joined = ("-j", "oe") in of_pbs(self.script)
        with task.output.open("wb") as out, nullcontext(out) if joined else task.errors.open("wb") as err:
            return task.launched.start(self.site, task.directory, out, err)

    @abstractmethod
    def tasks(self) -> Iterator[Task]:
        """The tasks of the job that was submitted."""

    @abstractmethod
    def shows(self, word: str) -> None:
        """Say from now on that the job is `waiting` or `running`."""

    @abstractmethod
    def forgets(self, statuses: dict[int, int]) -> None:
        """The job has ended: of those of its tasks that are still known (0: it is none of an array) with these statuses."""


class Pbs(StandIn):
    """OpenPBS."""

    name = "pbs"
    commands: ClassVar = {"qsub": _QSUB, "qstat": _QSTAT, "qdel": _ANSWER, "pbs_rstat": ""}
    job, array = "42.head", "42[].head"

    def tasks(self) -> Iterator[Task]:
        said = dict(pair for pair in of_pbs(self.script) if pair[0] != "-l")
        resources = dict(text.partition("=")[::2] for name, text in of_pbs(self.script) if name == "-l")
        select = re.fullmatch(r"1:(ncpus=[0-9]+:mem=[0-9]+mb)", resources.pop("select"))
        assert select
        first, _, last = said.get("-J", "0-0").partition("-")
        assert int(first) < int(last) or "-J" not in said, "qsub refuses it (chk_Jrange in its source)"
        for index in range(int(first), int(last) + 1):
            variables = {"PBS_JOBID": f"42[{index}].head" if index else "42.head", "PBS_O_WORKDIR": str(self.workdir)}
            variables |= {"PBS_ARRAY_INDEX": str(index), "PBS_ARRAY_ID": "42[].head"} if index else {}
            variables["PBS_JOBNAME"] = said["-N"]
            launched = by_pbs(self.site, self.script, self._monkeypatch, f"(n1:{select[1]})", resources, variables, said["-S"])
            end = f"42.{index}" if index else "42"
            named = (said.get(f"-{letter}", f"{said['-N']}.{letter}{end}") for letter in "oe")
            out, err = (self.workdir / name.replace("^array_index^", str(index)) for name in named)
            yield Task(launched, self.home, out, err, index)

    def shows(self, word: str) -> None:
        letter = {"waiting": "Q", "running": "B" if self._is_array else "R"}[word]
        self.says(full(self.array if self._is_array else self.job, letter))

    def forgets(self, statuses: dict[int, int]) -> None:
        own = full(self.array, "F", 0) if self._is_array else ""
        history = [full(f"42[{index}].head" if index else self.job, "F", status) for index, status in statuses.items()]
        self.says("", 35, own + "".join(history))

    @property
    def _is_array(self) -> bool:
        return "\n#PBS -J " in self.script


class Torque(StandIn):
    """Torque."""

    name = "torque"
    commands: ClassVar = {"qsub": _QSUB, "qstat": _ANSWER, "qdel": _ANSWER, "qchkpt": ""}
    job, array = "42.head", "42[].head"

    def tasks(self) -> Iterator[Task]:
        said = dict(pair for pair in of_pbs(self.script) if pair[0] != "-l")
        resources = dict(text.partition("=")[::2] for name, text in of_pbs(self.script) if name == "-l")
        requests = dict(text.partition("=")[::2] for text in said["-v"].split(","))
        for index in self._indices:
            variables = {"PBS_JOBID": f"42[{index}].head" if index else "42.head", "PBS_O_WORKDIR": str(self.workdir)}
            variables |= {"PBS_ARRAYID": str(index)} if index else {}
            variables |= {"PBS_JOBNAME": said["-N"] + (f"-{index}" if index else ""), "PBS_O_INITDIR": said["-d"]}
            variables["PBS_NUM_PPN"] = resources["nodes"].removeprefix("1:ppn=")
            launched = by_torque(self.site, self.script, variables | requests, said["-S"])
            end = f"-{index}" if index else ""
            out, err = (self.workdir / (said.get(f"-{letter}", f"{said['-N']}.{letter}42") + end) for letter in "oe")
            yield Task(launched, Path(said["-d"]), out, err, index)

    def shows(self, word: str) -> None:
        self._show({index: ({"waiting": "Q", "running": "R"}[word], None) for index in self._indices})

    def forgets(self, statuses: dict[int, int]) -> None:
        if statuses:
            self._show({index: ("C", status) for index, status in statuses.items()})
        else:
            self.says("", 153)

    def _show(self, tasks: dict[int, tuple[str, int | None]]) -> None:
        own = full(self.array, "Q") if list(tasks) != [0] else ""
        self.says(own + "".join(full(f"42[{index}].head" if index else self.job, *said) for index, said in tasks.items()))

    @property
    def _indices(self) -> list[int]:
        said = dict(of_pbs(self.script)).get("-t", "0")
        first, _, last = said.partition("-")
        return list(range(int(first), int(last or first) + 1))


class HtCondor(StandIn):
    """HTCondor, whose own library reads the description."""

    name = "htcondor"
    commands: ClassVar = {
        "condor_submit": _CONDOR_SUBMIT,
        "condor_q": _ANSWER,
        "condor_rm": _ANSWER,
        "condor_history": "cat {spool}/history\n",
    }
    job = array = "42"

    def tasks(self) -> Iterator[Task]:
        for number, process in enumerate(condor.processes(self.script, 42)):
            said = process.said
            assert said["should_transfer_files"] == "NO", "or the job would start in its scratch folder"
            requests = "".join(f"{name[3:]} = {value}\n" for name, value in said.items() if name.startswith("MY."))
            ad = f'ClusterId = 42\nProcId = {number}\nJobUniverse = 5\nJobBatchName = "{said["batch_name"]}"\n{requests}'
            slot = f'Cpus = {said["request_cpus"]}\nMemory = {said["request_memory"]}\nMachine = "n1"\n'
            directory = Path(said["initialdir"])
            launched = by_htcondor(self.site, process.argv, ad, slot)
            yield Task(launched, directory, directory / said["output"], directory / said["error"], number)

    def shows(self, word: str) -> None:
        self.says("0 {} undefined\n".format({"waiting": 1, "running": 2}[word]))

    def forgets(self, statuses: dict[int, int]) -> None:
        self.says("", history="".join(f"{number} false undefined {status} undefined\n" for number, status in statuses.items()))


def full(job: str, letter: str, status: int | None = None) -> str:
    """A job as `qstat -f` shows it."""
    ended = "" if status is None else f"    Exit_status = {status}\n"
    return f"Job Id: {job}\n    Job_Name = sim\n    job_state = {letter}\n{ended}    Variable_List = A=b,\n\tC=d\n\n"
