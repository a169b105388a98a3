"""What is Grid Engine's alone: how a machine is asked for, limits, parallel environments, what qstat and qacct show."""

from __future__ import annotations

import pwd
import re
import time

import pytest

from tests.framework.batch import BatchSystem, JobRequest, Why
from tests.framework.gridengine import MASTER, Grid
from tests.framework.gridengine_adapter import GridEngine
from tests.framework.installation import eventually

SHELL = "#!/bin/sh\n"


@pytest.fixture
def engine(batch: BatchSystem, grid: Grid) -> GridEngine:
    """The adapter, whose own words these tests need."""
    assert isinstance(batch, GridEngine)
    return batch


def submitted(grid: Grid, script: str, *words: str) -> str:
    options = ["-cwd", "-q", "request", "-o", "$JOB_ID.out", "-e", "$JOB_ID.err", *words]
    done = grid.run("qsub", "-terse", *options, stdin=script.encode())
    assert done.status == 0, done.err
    match = re.match("[0-9]+", done.out.decode())
    assert match
    return match[0]


def refused(grid: Grid, *words: str) -> str:
    done = grid.run("qsub", "-cwd", "-q", "request", *words, stdin=b"#!/bin/sh\ntrue\n")
    assert done.status != 0, done.out
    return " ".join(done.err.split())


def test_what_grid_engine_would_not_refuse_itself(grid: Grid) -> None:
    assert "must be a hard request" in refused(grid, "-soft", "-l", "vm_image=debian:12")
    assert "no suitable queues" in refused(grid, "-l", "vm_image=debian:12,m_mem_free=99G")


def test_settings_with_errors_are_told_in_one_answer_and_the_jsv_goes_on(grid: Grid) -> None:
    before = grid.settings.read_text()
    grid.settings.write_text(f"more = 1\nnonsense = 2\n{before}")
    try:
        told = refused(grid, "-l", "vm_image=debian:12")
    finally:
        grid.settings.write_text(before)
    assert "2 errors" in told
    assert "nonsense" in told
    assert "is not allowed here" in refused(grid, "-l", "vm_image=el:9")


def test_the_prolog_makes_the_users_folders(grid: Grid, engine: GridEngine) -> None:
    """Those that the site's settings name after users; nobody else makes them here."""
    job = submitted(grid, SHELL + "true\n", "-l", "vm_image=debian:12")
    assert engine.ended(job).why is Why.DONE, engine.errors(job)
    for name in ("records", "cache", "templates"):
        made = (grid.folder / name / grid.user).stat()
        assert (made.st_uid, made.st_mode & 0o777) == (pwd.getpwnam(grid.user).pw_uid, 0o700)


def test_the_context_shows_the_machine_while_it_runs_and_qacct_its_cpu_time(grid: Grid, engine: GridEngine) -> None:
    spin = "python3 -c 'import time\nwhile time.process_time() < 2: pass'\nuntil [ -e seen ]; do sleep 0.1; done\n"
    job = submitted(grid, SHELL + spin, "-l", "vm_image=debian:12", "-ac", "own=note")

    def context() -> str:
        return grid.admin("qstat", "-j", job).out.decode()

    eventually(lambda: "dayfly=debian:12_sha256:" in context(), "the machine is shown", 30, context)
    assert "own=note" in context()
    (grid.work / "seen").touch()
    assert engine.ended(job).why is Why.DONE
    (grid.work / "seen").unlink()
    account, record = engine.account(job), engine.record(job)
    assert float(account["cpu"].rstrip("s")) > 2
    assert (record["batch"]["queue"], record["batch"]["name"], record["batch"]["cell"]) == ("request", "STDIN", "default")
    assert record["batch"]["node"] in engine.nodes


def test_slots_and_limits_of_address_space_make_the_machine(grid: Grid, engine: GridEngine) -> None:
    job = submitted(grid, SHELL + "nproc; ulimit -v\n", "-l", "vm_image=debian:12,h_vmem=1G", "-pe", "smp", "2")
    assert engine.ended(job).why is Why.DONE, engine.errors(job)
    cpus, limit = map(int, engine.output(job).split())
    assert (cpus, limit) == (2, 2 * 1024**2)
    machine = engine.record(job)["machine"]
    assert machine["cpus"] == 2
    assert machine["memory"] == 2048 - 768 << 20
    told = refused(grid, "-l", "vm_image=debian:12,h_vmem=600M")
    assert "ask for 896 MiB or more (h_vmem, ulimit -v)" in told


def test_memory_is_asked_for_by_the_slot(grid: Grid, engine: GridEngine) -> None:
    job = submitted(grid, SHELL + "true\n", "-l", "vm_image=debian:12,m_mem_free=512M", "-pe", "smp", "2")
    assert engine.ended(job).why is Why.DONE, engine.errors(job)
    assert 700 << 20 <= engine.record(job)["machine"]["memory"] < 1024 << 20
    assert "the job has 64 MiB of memory" in refused(grid, "-l", "vm_image=debian:12,m_mem_free=64M")


def test_a_parallel_job_of_two_hosts_gets_a_machine_where_it_asks_for_one(grid: Grid, engine: GridEngine) -> None:
    job = submitted(grid, SHELL + "uname -n; nproc; wc -l <$PE_HOSTFILE\n", "-l", "vm_image=debian:12", "-pe", "spread", "2")
    assert engine.ended(job).why is Why.DONE, engine.errors(job)
    assert engine.output(job).startswith(b"dayfly-")
    assert engine.output(job).split()[-1] == b"2", "the file that names its hosts is there"


def test_the_time_limit_ends_a_job_as_a_cancel_does(grid: Grid, engine: GridEngine) -> None:
    script = SHELL + "trap 'echo told; exit 0' TERM\necho up\nsleep 100 & wait\n"
    job = submitted(grid, script, "-l", "vm_image=debian:12,h_rt=00:00:05")
    engine.ended(job, 60)
    assert engine.output(job) == b"up\ntold\n"
    eventually(lambda: engine.machine_of(job) is None, "the machine is gone", 10)


def test_notify_warns_a_job_before_it_is_ended(grid: Grid, engine: GridEngine) -> None:
    script = SHELL + "trap 'echo warned; exit 3' USR2\necho up\nwhile :; do sleep 0.1; done\n"
    job = submitted(grid, script, "-l", "vm_image=debian:12", "-notify")
    eventually(lambda: (engine.work / f"{job}.out").exists() and b"up" in engine.output(job), "the job is up", 30)
    engine.cancel(job)
    engine.ended(job)
    assert engine.output(job) == b"up\nwarned\n"


def test_shells_and_commands(grid: Grid, engine: GridEngine) -> None:
    """A script without an interpreter's line, another shell, a command instead of a script: natively and in a machine."""
    scripts: list[tuple[list[str], str]] = [
        ([], "echo $0 | grep -c job_scripts; echo sh $((1 + 1))\n"),
        (["-S", "/bin/bash"], "echo ${BASH_VERSION:+bash}\n"),
    ]
    for words, script in scripts:
        ran = [submitted(grid, script, *words, *image) for image in ((), ("-l", "vm_image=debian:12"))]
        assert [engine.ended(job).why for job in ran] == [Why.DONE] * 2, [engine.errors(job) for job in ran]
        assert engine.output(ran[0]) == engine.output(ran[1]) != b""
    for image in ((), ("-l", "vm_image=debian:12")):
        options = ["-cwd", "-q", "request", "-o", "binary.out", "-j", "y", "-sync", "y", "-b", "y", *image]
        done = grid.run("qsub", *options, "/bin/echo", "a  b", "$HOME", "c")
        assert done.status == 0, done
        assert (engine.work / "binary.out").read_text() == "a  b $HOME c\n"
        (engine.work / "binary.out").unlink()


def test_the_jobs_own_folder_is_in_the_machine(grid: Grid, engine: GridEngine) -> None:
    script = SHELL + 'echo kept > "$TMPDIR/file"; cat "$TMPDIR/file"; stat -c %u "$TMPDIR"\n'
    job = submitted(grid, script, "-l", "vm_image=debian:12")
    assert engine.ended(job).why is Why.DONE, engine.errors(job)
    assert engine.output(job).split() == [b"kept", str(pwd.getpwnam(grid.user).pw_uid).encode()]


def test_a_host_that_cannot_start_machines_gives_the_job_back_once(grid: Grid, engine: GridEngine) -> None:
    before = grid.settings.read_text()
    stub = grid.folder / "qemu"
    broken = '[ "$(uname -n)" = n1 ] && { echo "this QEMU is broken" >&2; exit 1; }'
    stub.write_text(f'#!/bin/sh\n{broken}\nexec qemu-system-x86_64 "$@"\n')
    stub.chmod(0o755)
    grid.settings.write_text(re.sub('qemu = ".*"', f'qemu = "{stub}"', before))
    try:
        job = engine.submit(SHELL + "uname -n\n", JobRequest(node="n1", requeue=True))
        ended = engine.ended(job, 90)
    finally:
        grid.settings.write_text(before)
    assert (ended.why, ended.status) == (Why.FAILED, 125)
    assert "is requeued (1 of 1)" in engine.errors(job)
    assert len([record for record in engine.records() if record["batch"].get("job") == job]) >= 2


def test_setting_up_again_changes_nothing(grid: Grid) -> None:
    assert grid.setup() == "everything is up to date\n"
    done = grid.on(MASTER, str(grid.program), "batch", "setup", "gridengine", "--root", str(grid.root))
    assert "starter_method" in done.out.decode()


def test_what_a_site_has_of_its_own_is_not_taken_from_it(grid: Grid) -> None:
    assert grid.admin("qconf", "-rattr", "queue", "suspend_method", "/site/own", "never").status == 0
    try:
        words = ["batch", "setup", "gridengine", "--apply", "--queue", "never", "--settings", str(grid.settings)]
        done = grid.on(MASTER, str(grid.program), *words, "--program", "/none/dayfly")
        assert done.status == 125
        assert "queue never: has suspend_method /site/own" in done.err
        assert "/none/dayfly: does not exist" in done.err
    finally:
        method = grid.root / "default/common/dayfly/method"
        grid.admin("qconf", "-rattr", "queue", "suspend_method", f"{method} suspend $job_pid", "never")


def test_a_native_job_is_suspended_and_ended_as_ever(grid: Grid, engine: GridEngine) -> None:
    job = submitted(grid, SHELL + "while :; do date +%s.%N >> native; sleep 0.1; done\n")
    ticks = engine.work / "native"
    eventually(ticks.exists, "the job ticks", 30)
    engine.suspend(job)
    time.sleep(2)
    before = ticks.stat().st_size
    time.sleep(2)
    assert ticks.stat().st_size == before
    engine.resume(job)
    eventually(lambda: ticks.stat().st_size > before, "the job goes on", 20)
    engine.cancel(job)
    engine.ended(job)
    ticks.unlink()
