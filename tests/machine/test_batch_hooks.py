"""Real machines behind the hooks for PBS, HTCondor and Torque, run in stand-ins for those: the same job, the same machine.

None of the three is here. What their daemons do to a job (its variables, its session, the signals) is done by the tests, from the
batch systems' documentation and source.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from dayfly.batch.htcondor import setup as htcondor
from dayfly.batch.pbs import setup as pbs
from dayfly.batch.torque import setup as torque
from dayfly.settings import Settings
from tests.framework.site import IMAGE, SECONDS, Site, eventually
from tests.unit.batch.pbs_stand_in import executed, job, launch_event, run

ANSWER = b"dayfly-"
SCRIPT = "echo $HELLO; uname -n; nproc; pwd; echo err >&2; exit 7\n"


@dataclass(frozen=True)
class Submitted:
    """A job as its batch system starts it: the hook's argv, its variables, what is on its stdin, what is executed."""

    argv: list[str]
    environment: dict[str, str]
    stdin: bytes
    executable: str | None = None

    def start(self, site: Site) -> subprocess.Popen[bytes]:
        """Start it as the leader of a session of its own, as batch systems do."""
        with (site.work / "stdin").open("wb+") as file:
            file.write(self.stdin)
            file.seek(0)
            stdin: int = file.fileno()
            if self.stdin.endswith(b".SC\n"):  # a name comes through a pipe
                stdin, writer = os.pipe()
                os.write(writer, self.stdin)
                os.close(writer)
            started = subprocess.Popen(
                self.argv,
                executable=self.executable,
                env=self.environment,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=site.work,
                start_new_session=True,
            )
            if stdin != file.fileno():
                os.close(stdin)
            return started


def program(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def of_pbs(site: Site, script: str, monkeypatch: pytest.MonkeyPatch) -> Submitted:
    """A script's name comes through a pipe to a login shell."""
    event = launch_event(job("(n1:ncpus=1:mem=900mb)", vm_image=IMAGE, mem="900mb"))
    assert run(monkeypatch, event, pbs.hook(Settings(), dayfly(site), str(site.settings_file))) == ""
    variables = {"PBS_JOBID": "7.head", "PBS_QUEUE": "short", "PBS_JOBNAME": "sim", "PBS_ENVIRONMENT": "PBS_BATCH"}
    executable, argv = executed(event)
    return Submitted(argv, own(variables), named(site, script), executable)


def of_torque(site: Site, script: str, monkeypatch: pytest.MonkeyPatch) -> Submitted:
    """The same, by the job starter and variables."""
    starter = program(site.work / "starter", torque.files(Settings(), dayfly(site), str(site.settings_file), "")["starter"])
    variables = {"PBS_JOBID": "7.head", "PBS_QUEUE": "short", "PBS_JOBNAME": "sim", "PBS_ENVIRONMENT": "PBS_BATCH"}
    variables |= {"PBS_NUM_PPN": "1", "PBS_NUM_NODES": "1", "DAYFLY_IMAGE": IMAGE}
    return Submitted([starter, "/bin/bash"], own(variables), named(site, script))


def of_htcondor(site: Site, script: str, monkeypatch: pytest.MonkeyPatch) -> Submitted:
    """A program in the job's folder, which is its working directory."""
    wrapper = program(site.work / "wrapper", htcondor.files(Settings(), dayfly(site), str(site.settings_file), "")["wrapper"])
    name = program(site.work / "condor_exec.exe", f"#!/bin/bash\n{script}")
    job_ad = site.work / ".job.ad"
    job_ad.write_text(f'ClusterId = 7\nJobBatchName = "sim"\nJobUniverse = 5\nProcId = 0\nVMImage = "{IMAGE}"\n')
    slot = site.work / ".machine.ad"
    slot.write_text('Cpus = 1\nDayflyQueue = "short"\nMachine = "n1"\nMemory = 900\n')
    variables = {"_CONDOR_JOB_AD": str(job_ad), "_CONDOR_MACHINE_AD": str(slot), "_CONDOR_SCRATCH_DIR": str(site.work)}
    variables |= {"_CONDOR_WRAPPER_ERROR_FILE": str(site.work / ".job_wrapper_failure")}
    return Submitted([wrapper, name], own(variables), b"")


def dayfly(site: Site) -> str:
    return program(site.work / "dayfly", f'#!/bin/sh\nexec {sys.executable} -m dayfly "$@"\n')


def own(variables: dict[str, str]) -> dict[str, str]:
    """The job's variables; one that would keep Python from starting, if the job shell had it."""
    return {"PATH": "/usr/bin:/bin", "HOME": "/", "PYTHONHOME": "/none", "HELLO": "hi", **variables}


def named(site: Site, script: str) -> bytes:
    """pbs_mom's folder of scripts, which the machine does not see."""
    folder = site.folder / "code/mom_priv/jobs"
    folder.mkdir(parents=True)
    path = folder / "7.head.SC"
    path.write_text(script)
    return f"{path}\n".encode()


Submit = Callable[[Site, str, pytest.MonkeyPatch], Submitted]
EVERYWHERE = pytest.mark.parametrize("submit", [of_pbs, of_htcondor, of_torque])


@EVERYWHERE
def test_the_same_job_in_the_same_machine(site: Site, submit: Submit, monkeypatch: pytest.MonkeyPatch) -> None:
    with submit(site, SCRIPT, monkeypatch).start(site) as started:
        out, err = started.communicate(timeout=SECONDS)
    lines = out.splitlines()
    assert (started.returncode, err) == (7, b"err\n")
    assert lines[0] == b"hi"
    assert lines[1].startswith(ANSWER)
    assert lines[2:] == [b"1", bytes(site.work)]
    batch = site.record()["batch"]
    assert batch["system"] == submit.__name__.removeprefix("of_")
    assert (batch["job"].partition(".")[0], batch["name"], batch["queue"]) == ("7", "sim", "short")
    if submit is not of_torque:  # which says memory by limits alone
        assert site.record()["machine"]["memory"] < 900 * 1024**2


@EVERYWHERE
def test_a_stop_of_the_session_stops_the_machine(site: Site, submit: Submit, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "echo up; i=0; while [ $i -lt 8 ]; do i=$((i+1)); echo $i >>counted; sleep 0.2; done; echo done\n"
    counted = site.work / "counted"
    with submit(site, script, monkeypatch).start(site) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == b"up\n"
        machine = site.machine_of(started)
        eventually(counted.exists)
        to_session(started.pid, signal.SIGSTOP)
        try:
            eventually(lambda: state(machine.pid) == "T")
            before = counted.read_bytes()
            time.sleep(0.8)
            later = counted.read_bytes()
        finally:
            to_session(started.pid, signal.SIGCONT)
        assert started.stdout.read() == b"done\n"
        assert started.wait(SECONDS) == 0
    assert len(counted.read_bytes().split()) == 8 > len(before.split())
    assert later == before


@EVERYWHERE
def test_term_is_the_jobs(site: Site, submit: Submit, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "trap 'echo term; exit 3' TERM; echo up; while :; do sleep 0.1; done\n"
    with submit(site, script, monkeypatch).start(site) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == b"up\n"
        machine = site.machine_of(started)
        assert os.getsid(machine.pid) == started.pid
        to_session(started.pid, signal.SIGTERM)
        assert started.stdout.readline() == b"term\n"
        assert started.wait(SECONDS) == 3


@EVERYWHERE
def test_after_a_kill_nothing_is_left(site: Site, submit: Submit, monkeypatch: pytest.MonkeyPatch) -> None:
    with submit(site, "echo up; sleep 100\n", monkeypatch).start(site) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == b"up\n"
        machine = site.machine_of(started)
        os.kill(started.pid, signal.SIGKILL)
        assert started.wait(SECONDS) == -signal.SIGKILL
    eventually(lambda: not Path(f"/proc/{machine.pid}").exists())


def test_a_host_without_machines_is_the_wrappers_failure_for_htcondor(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.configure(machine_qemu="/none/qemu")
    with of_htcondor(site, SCRIPT, monkeypatch).start(site) as started:
        _, err = started.communicate(timeout=SECONDS)
    assert started.returncode == 1
    assert b"n1 could not start a machine, and the job is put back into the queue" in err
    assert (site.work / ".job_wrapper_failure").read_text().startswith("dayfly: ")


def stand_in(site: Site, name: str, ending: str) -> Path:
    """A command of a batch system on the job's PATH, which writes down what it is called with."""
    folder = site.work / "bin"
    folder.mkdir(exist_ok=True)
    asked = site.work / "asked"
    program(folder / name, f'#!/bin/sh\nprintf "%s\\n" "$@" >{asked}\n{ending}\n')
    return asked


@pytest.mark.parametrize(
    ("ending", "status", "said"),
    [
        ("exit 0", 125, "n1 could not start a machine, and the job is put back into the queue, time 1 of 2"),
        ("echo 'qrerun: Unauthorized Request' >&2; exit 159", 125, "the job fails: qrerun says: qrerun: Unauthorized Request"),
    ],
)
def test_a_host_without_machines_asks_pbs_to_start_the_job_again(
    site: Site, monkeypatch: pytest.MonkeyPatch, ending: str, status: int, said: str
) -> None:
    site.configure(machine_qemu="/none/qemu")
    asked = stand_in(site, "qrerun", ending)
    submitted = of_pbs(site, SCRIPT, monkeypatch)
    submitted.environment["PATH"] = f"{asked.parent}/bin:/usr/bin:/bin"
    with submitted.start(site) as started:
        _, err = started.communicate(timeout=SECONDS)
    assert (started.returncode, asked.read_text()) == (status, "7.head\n")
    assert said.replace("n1", os.uname().nodename) in err.decode()


def test_the_machine_is_shown_in_the_jobs_classad(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = stand_in(site, "condor_chirp", f'test "$_CONDOR_JOB_AD" = {site.work}/.job.ad && echo >>{site.work}/asked')
    submitted = of_htcondor(site, SCRIPT, monkeypatch)
    submitted.environment["PATH"] = f"{asked.parent}/bin:/usr/bin:/bin"
    with submitted.start(site) as started:
        started.communicate(timeout=SECONDS)
    words = asked.read_text().splitlines()
    assert words[:2] == ["set_job_attr_delayed", "ChirpDayfly"]
    assert words[2].startswith('"debian:12 sha256:')
    assert words[3] == ""  # it had HTCondor's variables


def to_session(session: int, number: int) -> None:
    """Send a signal to every process of a session, as pbs_mom does."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and os.getsid(int(entry.name)) == session:
                os.kill(int(entry.name), number)


def state(pid: int) -> str:
    """The state of a process (proc_pid_stat(5))."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
