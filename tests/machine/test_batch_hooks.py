"""Real machines behind the hooks for PBS, HTCondor and Torque, run in stand-ins for those: the same job, the same machine.

None of the three is here. What their daemons do to a job (its variables, its session, the signals) is done by the tests, from the
batch systems' documentation and source.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dayfly.batch.setup import hooks
from tests.framework.hooks import Launched, by_htcondor, by_pbs, by_torque, program
from tests.framework.site import IMAGE, SECONDS, Site, eventually

ANSWER = b"dayfly-"
SCRIPT = "echo $HELLO; uname -n; nproc; pwd; echo err >&2; exit 7\n"


def of_pbs(site: Site, script: str, monkeypatch: pytest.MonkeyPatch) -> Launched:
    resources = {"vm_image": IMAGE, "mem": "900mb"}
    return by_pbs(site, script, monkeypatch, "(n1:ncpus=1:mem=900mb)", resources, {"PBS_JOBID": "7.head"})


def of_torque(site: Site, script: str, monkeypatch: pytest.MonkeyPatch) -> Launched:
    return by_torque(site, script, {"PBS_JOBID": "7.head", "PBS_NUM_PPN": "1", "DAYFLY_IMAGE": IMAGE})


def of_htcondor(site: Site, script: str, monkeypatch: pytest.MonkeyPatch) -> Launched:
    """A program in the job's folder, which is its working directory."""
    name = program(site.work / "condor_exec.exe", f"#!/bin/bash\n{script}")
    job_ad = f'ClusterId = 7\nJobBatchName = "sim"\nJobUniverse = 5\nProcId = 0\nVMImage = "{IMAGE}"\n'
    return by_htcondor(site, [name], job_ad, 'Cpus = 1\nDayflyQueue = "short"\nMachine = "n1"\nMemory = 900\n')


Submit = Callable[[Site, str, pytest.MonkeyPatch], Launched]
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


def test_the_file_of_a_jobs_hosts_is_there_to_be_read(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    script = 'cat "$PBS_NODEFILE"; echo n2 >>"$PBS_NODEFILE"\n'
    with of_pbs(site, script, monkeypatch).start(site) as started:
        out, err = started.communicate(timeout=SECONDS)
    assert out == b"n1\n"
    assert b"Read-only file system" in err


@pytest.mark.parametrize("submit", [of_pbs, of_torque])
def test_commands_of_a_script_do_not_read_the_script(site: Site, submit: Submit, monkeypatch: pytest.MonkeyPatch) -> None:
    script = 'echo first\ncat\nread -r line; echo "read $? $line"\n' + "# much more\n" * 10_000 + "echo last\nexit 3\n"
    with submit(site, script, monkeypatch).start(site) as started:
        out, err = started.communicate(timeout=SECONDS)
    assert (started.returncode, out, err) == (3, b"first\nread 1 \nlast\n", b"")


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


@pytest.mark.parametrize("through", ["itself", "a-link"])
@pytest.mark.parametrize("submit", [of_pbs, of_torque])
def test_the_folder_that_a_job_was_submitted_from(
    site: Site, submit: Submit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, through: str
) -> None:
    """As the user's shell showed it: homes are links on many clusters."""
    project = tmp_path / "project"
    project.mkdir()
    if through == "a-link":
        (tmp_path / "home").symlink_to(tmp_path)
        project = tmp_path / "home/project"
    launched = submit(site, "cd $PBS_O_WORKDIR && pwd && echo in >made", monkeypatch)
    launched.environment["PBS_O_WORKDIR"] = str(project)
    with launched.start(site) as started:
        out, err = started.communicate(timeout=SECONDS)
    assert (started.returncode, out, err) == (0, f"{project}\n".encode(), b"")
    assert (project / "made").read_text() == "in\n"


@pytest.mark.parametrize("submit", [of_pbs, of_torque])
def test_the_policy_has_a_say_on_that_folder(site: Site, submit: Submit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(
        f'[[rule]]\naction = "allow"\nlimits = {{ shares = ["{site.work}", "{site.folder}/code/aux:ro"] }}\n'
    )
    site.configure(policy_user=str(tmp_path / "policy.toml"))
    launched = submit(site, "echo ran", monkeypatch)
    for folder, status, said in ((tmp_path, 125, f"to share {tmp_path} for writing (allowed: {site.work}"), (site.work, 0, "")):
        launched.environment["PBS_O_WORKDIR"] = str(folder)
        with launched.start(site) as started:
            _, err = started.communicate(timeout=SECONDS)
        assert (started.returncode, said in err.decode()) == (status, True), err


def test_a_host_without_machines_is_the_wrappers_failure_for_htcondor(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.configure(machine_qemu="/none/qemu")
    with of_htcondor(site, SCRIPT, monkeypatch).start(site) as started:
        _, err = started.communicate(timeout=SECONDS)
    assert started.returncode == 1
    assert b"n1 could not start a machine, and the job is requeued" in err
    assert (site.work / ".job_wrapper_failure").read_text().startswith("dayfly: ")


def stand_in(site: Site, name: str, ending: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A command of a batch system on the hook's PATH, which writes down what it is called with; the job's PATH has another."""
    folder = site.work / "bin"
    folder.mkdir(exist_ok=True)
    asked = site.work / "asked"
    program(folder / name, f'#!/bin/sh\nprintf "%s\\n" "$@" >{asked}\n{ending}\n')
    (folder / "bin").mkdir()
    program(folder / "bin" / name, f"#!/bin/sh\ntouch {site.work}/called\n")
    monkeypatch.setattr(hooks, "HAND_OVER", hooks.HAND_OVER.replace(hooks.PATH, f"{hooks.PATH}:{folder}"))
    return asked


@pytest.mark.parametrize(
    ("ending", "status", "said"),
    [
        ("exit 0", 125, "n1 could not start a machine, and the job is requeued (1 of 2)"),
        ("echo 'qrerun: Unauthorized Request' >&2; exit 159", 125, "the job fails: qrerun says: qrerun: Unauthorized Request"),
    ],
)
def test_a_host_without_machines_asks_pbs_to_start_the_job_again(
    site: Site, monkeypatch: pytest.MonkeyPatch, ending: str, status: int, said: str
) -> None:
    site.configure(machine_qemu="/none/qemu")
    asked = stand_in(site, "qrerun", ending, monkeypatch)
    submitted = of_pbs(site, SCRIPT, monkeypatch)
    submitted.environment["PATH"] = f"{asked.parent}/bin/bin:/usr/bin:/bin"
    with submitted.start(site) as started:
        _, err = started.communicate(timeout=SECONDS)
    assert (started.returncode, asked.read_text()) == (status, "7.head\n")
    assert not (site.work / "called").exists()
    assert said.replace("n1", os.uname().nodename) in err.decode()


def test_a_folder_that_its_user_may_not_list_is_the_jobs_fault(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a process without root's capabilities. The host is not tried, and the job not put back."""
    asked = stand_in(site, "qrerun", "exit 0", monkeypatch)
    closed = site.work / "closed"
    closed.mkdir(mode=0o300)
    resources = {"vm_image": IMAGE, "mem": "900mb", "vm_share": str(closed)}
    launched = by_pbs(site, SCRIPT, monkeypatch, "(n1:ncpus=1:mem=900mb)", resources, {"PBS_JOBID": "7.head"})
    powerless = ["unshare", "--map-root-user", "setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    plain = [*powerless, "/bin/bash", *launched.argv[1:]]
    began = time.monotonic()
    with replace(launched, argv=plain, executable=None).start(site) as started:
        out, err = started.communicate(timeout=SECONDS)
    assert (started.returncode, out) == (125, b"")
    assert err.startswith(f"dayfly: {closed} cannot be shared: the job's user may not list".encode())
    assert not asked.exists()
    assert time.monotonic() - began < 8


def test_the_machine_is_shown_in_the_jobs_classad(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    chirp = f'test "$_CONDOR_SCRATCH_DIR" = {site.work} && test -z "$_CONDOR_JOB_AD" && echo >>{site.work}/asked'
    asked = stand_in(site, "condor_chirp", chirp, monkeypatch)
    submitted = of_htcondor(site, SCRIPT, monkeypatch)
    submitted.environment["PATH"] = f"{asked.parent}/bin/bin:/usr/bin:/bin"
    with submitted.start(site) as started:
        started.communicate(timeout=SECONDS)
    assert not (site.work / "called").exists()
    words = asked.read_text().splitlines()
    assert words[:2] == ["set_job_attr_delayed", "ChirpDayfly"]
    assert words[2].startswith('"debian:12 sha256:')
    assert words[3] == ""  # it had what it needs of HTCondor's variables


def to_session(session: int, number: int) -> None:
    """Send a signal to every process of a session, as pbs_mom does."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and os.getsid(int(entry.name)) == session:
                os.kill(int(entry.name), number)


def state(pid: int) -> str:
    """The state of a process (proc_pid_stat(5))."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
