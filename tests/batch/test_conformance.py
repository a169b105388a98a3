"""The job's contract (docs/explanation/contract.md) under a batch system, whichever it is."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from dayfly.machine.processes import Running
from tests.framework.batch import Ability, BatchSystem, Interactive, JobRequest, NewTimeLimit, Refusal, Signals, State, Why
from tests.framework.inside import dayfly_in
from tests.framework.installation import eventually
from tests.framework.refusals import NESTED, REFUSED

SHELL = "#!/bin/sh\n"
LONG_ONCE = SHELL + 'second=$(ls second 2>/dev/null)\necho up in $(uname -n)\n[ "$second" ] || sleep 100\n'
"""It runs long unless there was a file `second` before it said that it is up."""


def started(batch: BatchSystem, job: str, word: bytes = b"up") -> Running:
    """Wait until a job's script says that it is up; its machine."""
    path = batch.work / f"{job}.out"
    eventually(lambda: path.exists() and word in path.read_bytes(), f"job {job} says {word!r}", 60)
    machine = batch.machine_of(job)
    assert machine is not None
    return machine


# Streams, status, surroundings


def test_streams_are_apart_and_byte_exact(batch: BatchSystem) -> None:
    job = batch.submit(SHELL + "head -c 3000000 /dev/zero | tr '\\0' 'x'; printf '\\000\\377e' >&2\n")
    assert batch.ended(job).why is Why.DONE
    assert batch.output(job) == b"x" * 3_000_000
    assert (batch.work / f"{job}.err").read_bytes() == b"\x00\xffe"
    record = batch.record(job)
    assert (record["end"]["reason"], record["batch"]["system"]) == ("exit", batch.name)


@pytest.mark.needs(Ability.INTERACTIVE)
def test_stdin_reaches_an_interactive_job(batch: BatchSystem) -> None:
    sent = os.urandom(1_000_000)
    assert isinstance(batch, Interactive)
    done = batch.interactive(["sha256sum"], stdin=sent)
    assert (done.status, done.out.split()[0].decode()) == (0, hashlib.sha256(sent).hexdigest()), done.err


@pytest.mark.parametrize(("command", "status", "number"), [("exit 7", 7, 0), ("kill -TERM $$", 0, 15), ("kill -9 $$", 0, 9)])
def test_status(batch: BatchSystem, command: str, status: int, number: int) -> None:
    job = batch.submit(SHELL + command + "\n")
    native = batch.submit(SHELL + command + "\n", JobRequest(image=None))
    ended = batch.ended(job)
    assert (ended.status, ended.signal) == (status, number)
    assert ended == batch.ended(native)


def test_environment_with_odd_characters_and_much_of_it(batch: BatchSystem) -> None:
    odd = {"ODD": "a b\tc\nd'e\"f\\g$h`i", "UMLAUT": "öß€", "EMPTY": "", "LARGE": "x" * 100_000}
    poison = {"PYTHONPATH": "/nonexistent", "PYTHONHOME": "/nonexistent", "LD_LIBRARY_PATH": "/nonexistent"}
    script = SHELL + 'printf "%s|" "$ODD" "$UMLAUT" "$EMPTY" "${#LARGE}" "$PYTHONPATH" "$PYTHONHOME" "$LD_LIBRARY_PATH"\n'
    job = batch.submit(script, JobRequest(environment=odd | poison))
    native = batch.submit(script, JobRequest(image=None, environment=odd | poison))
    assert batch.ended(job).why is Why.DONE, batch.errors(job)
    batch.ended(native)
    output = batch.output(job)
    assert output == batch.output(native), "a batch system may cut variables"
    values = output.decode().split("|")
    assert values[:3] + values[4:7] == [odd["ODD"], odd["UMLAUT"], "", *poison.values()]
    assert int(values[3]) > 5000


def test_options_in_the_script_and_no_environment(batch: BatchSystem) -> None:
    script = SHELL + "uname -n; echo ${LEFT_OUT:-none}\n"
    wish = JobRequest(environment={"LEFT_OUT": "there"}, in_script=True, bare_environment=True)
    job = batch.submit(script, wish)
    assert batch.ended(job).why is Why.DONE
    host, left_out = batch.output(job).decode().split()
    assert (host, left_out) == (f"dayfly-{batch.record(job)['id']}", "none")


def test_directory_is_shared_and_the_jobs_owner_is_its_user(batch: BatchSystem) -> None:
    job = batch.submit(SHELL + 'pwd; id -u; echo made > "made.$1"; cat "made.$1"; ls -ln "made.$1" | cut -d" " -f3\n')
    assert batch.ended(job).why is Why.DONE, batch.errors(job)
    directory, uid, made, owner = batch.output(job).decode().split()
    assert directory == str(batch.work)
    assert int(uid) == int(owner) == (batch.work / "made.").stat().st_uid != 0
    assert made == "made"


def test_another_folder_is_shared(batch: BatchSystem) -> None:
    folder = batch.folder / "data"
    folder.mkdir(exist_ok=True)
    (folder / "input").write_text("from the host\n")
    job = batch.submit(
        SHELL + f"cat {folder}/input; touch {folder}/new 2>/dev/null || echo read-only\n", JobRequest(shares=(f"{folder}:ro",))
    )
    assert batch.ended(job).why is Why.DONE, batch.errors(job)
    assert batch.output(job).decode().splitlines() == ["from the host", "read-only"]


# CPUs and memory


def test_the_machine_has_what_was_allocated(batch: BatchSystem) -> None:
    job = batch.submit(SHELL + "nproc\n", JobRequest(cpus=2, memory=1024))
    assert batch.ended(job).why is Why.DONE, batch.errors(job)
    machine = batch.record(job)["machine"]
    assert batch.output(job).split() == [b"2"]
    assert machine["cpus"] == 2
    assert 700 << 20 <= machine["memory"] < 1024 << 20


def test_out_of_memory_in_the_guest(batch: BatchSystem) -> None:
    script = SHELL + "exec python3 - <<'E'\nx = []\nwhile True:\n    x.append(b'1' * (1 << 20))\nE\n"
    job = batch.submit(script, JobRequest(memory=600))
    ended = batch.ended(job)
    assert (ended.why, ended.signal) == (Why.FAILED, 9)
    assert "ran out of memory" in batch.errors(job)
    assert batch.record(job)["end"]["reason"] == "out-of-memory"


@pytest.mark.needs(Ability.MEMORY_LIMIT)
@pytest.mark.timeout(900)
def test_a_machine_that_uses_all_its_memory_and_disk_stays_within_the_allocation(batch: BatchSystem) -> None:
    script = (
        SHELL
        + """
head -c 400M /dev/zero > /var/tmp/large
python3 - <<'E'
def available():
    return next(int(line.split()[1]) for line in open("/proc/meminfo") if line.startswith("MemAvailable"))
x = []
while available() > 40000:
    x.append(b"1" * (1 << 20))
print("used", flush=True)
import importlib, pkgutil  # much code of all kinds, for what an emulator keeps of it
for module in list(pkgutil.iter_modules()):
    if not module.name.startswith(("antigravity", "this", "idlelib", "turtle", "tkinter")):
        try:
            importlib.import_module(module.name)
        except BaseException:
            pass
E
head -c 400M /dev/zero > /var/tmp/more
echo end
"""
    )
    job = batch.submit(script, JobRequest(memory=700))
    assert batch.ended(job, 800).why is Why.DONE, batch.errors(job)
    assert batch.output(job).split() == [b"used", b"end"]


def test_more_memory_than_a_node_has_is_refused(batch: BatchSystem) -> None:
    with pytest.raises(Refusal):
        batch.submit(SHELL + "true\n", JobRequest(memory=999_999))


def test_too_little_memory_for_a_machine_is_said(batch: BatchSystem) -> None:
    """At submission where the batch system can be asked then, else by the job."""
    try:
        job = batch.submit(SHELL + "true\n", JobRequest(memory=200))
    except Refusal as refusal:
        told = " ".join(str(refusal).split())
    else:
        assert batch.ended(job).status == 125
        told = batch.errors(job)
    assert "ask the batch system for 385 MiB or more" in told


# Images and defaults


@pytest.mark.parametrize(("wish", "words"), REFUSED)
def test_what_is_refused_at_submission(batch: BatchSystem, wish: JobRequest, words: str) -> None:
    with pytest.raises(Refusal) as refusal:
        batch.submit(SHELL + "echo never\n", wish)
    assert words.format(library=batch.folder / "library") in " ".join(str(refusal.value).split())


def test_a_machine_in_a_machine_is_refused(batch: BatchSystem) -> None:
    """By the command: what a batch system could be asked in a machine is not there."""
    folder = batch.work / "inside"
    try:
        job = batch.submit(SHELL + f"exec {dayfly_in(folder)} run debian:12 -- true\n", JobRequest(memory=900))
        ended = batch.ended(job)
    finally:
        shutil.rmtree(folder)
    assert (ended.why, ended.status) == (Why.FAILED, 125)
    assert batch.errors(job) == f"dayfly: {NESTED}\n"


@pytest.mark.parametrize(
    ("queue", "tasks", "in_machine"), [("always", 1, True), ("always", 2, False), ("request", 1, False), ("never", 1, False)]
)
def test_a_queue_decides_for_jobs_that_say_nothing(batch: BatchSystem, queue: str, tasks: int, in_machine: bool) -> None:
    job = batch.submit(SHELL + "uname -n\n", JobRequest(image=None, queue=queue, tasks=tasks))
    assert batch.ended(job).why is Why.DONE, batch.errors(job)
    assert batch.output(job).startswith(b"dayfly-") == in_machine


# Several jobs


def test_an_array(batch: BatchSystem) -> None:
    job = batch.submit(SHELL + "uname -n; exit 0\n", JobRequest(array=3))
    batch.ended(job)
    outputs = [batch.work / f"{job}.{task}.out" for task in (1, 2, 3)]
    eventually(lambda: all(path.exists() and path.read_bytes() for path in outputs), "every task has written", 60)
    assert len({path.read_bytes() for path in outputs}) == 3
    eventually(lambda: _ended_tasks(batch, job) == {"1", "2", "3"}, "every task has its record", 20)


def _ended_tasks(batch: BatchSystem, job: str) -> set[str]:
    ours = (record for record in batch.records() if record["batch"].get("array_job") == job)
    return {record["batch"]["array_task"] for record in ours if record["end"]}


def test_several_jobs_at_once_on_two_nodes(batch: BatchSystem) -> None:
    jobs = [batch.submit(SHELL + "uname -n; sleep 2\n", JobRequest(node=node)) for node in batch.nodes for _ in range(2)]
    assert [batch.ended(job).why for job in jobs] == [Why.DONE] * 4
    assert len({batch.output(job) for job in jobs}) == 4
    assert {batch.record(job)["batch"]["node"] for job in jobs} == set(batch.nodes)


def test_twenty_jobs_at_once_on_two_nodes(batch: BatchSystem) -> None:
    jobs = [batch.submit(SHELL + "uname -n; exit 3\n", JobRequest(node=node)) for _ in range(10) for node in batch.nodes]
    ended = [batch.ended(job, 240) for job in jobs]
    others = {job: end for job, end in zip(jobs, ended, strict=True) if (end.why, end.status) != (Why.FAILED, 3)}
    assert not others, [(batch.errors(job), batch.told_of(job)) for job in others]
    assert len({batch.output(job) for job in jobs}) == len(jobs)
    assert all(batch.record(job)["end"]["reason"] == "exit" for job in jobs)


# Cancelling, signals, time


def test_cancel_while_waiting(batch: BatchSystem) -> None:
    job = batch.submit(SHELL + "true\n", JobRequest(held=True))
    batch.cancel(job)
    assert batch.ended(job).why is Why.CANCELLED


def test_cancel_while_booting(batch: BatchSystem) -> None:
    """A batch system that takes its time may end it when it has just begun."""
    job = batch.submit(SHELL + "sleep 60; echo never\n")
    eventually(lambda: batch.machine_of(job), "the machine was spawned", 20)
    batch.cancel(job)
    assert batch.ended(job).why is Why.CANCELLED
    assert batch.output(job) == b""
    assert batch.record(job)["end"]["reason"] in ("cancelled", "signal")


def test_cancel_while_running(batch: BatchSystem) -> None:
    job = batch.submit(SHELL + "trap 'echo told; exit 4' TERM\necho up\nsleep 100 & wait\n")
    started(batch, job)
    batch.cancel(job)
    assert batch.ended(job).why is Why.CANCELLED
    assert batch.output(job) == b"up\ntold\n"
    assert batch.record(job)["end"]["status"] == 4


def test_cancel_of_a_job_that_does_not_listen(batch: BatchSystem) -> None:
    job = batch.submit(SHELL + "trap '' TERM\necho up\nsleep 100\n")
    started(batch, job)
    batch.cancel(job)
    assert batch.ended(job).why is Why.CANCELLED
    eventually(lambda: batch.machine_of(job) is None, "the machine is gone", 15)


@pytest.mark.needs(Ability.SIGNALS)
def test_a_signal_of_the_users_choice(batch: BatchSystem) -> None:
    job = batch.submit(SHELL + "trap 'echo one' USR1; trap 'echo two; exit 0' USR2\necho up\nwhile :; do sleep 0.1; done\n")
    started(batch, job)
    assert isinstance(batch, Signals)
    batch.signal(job, "USR1")
    eventually(lambda: b"one" in batch.output(job), "USR1 arrived")
    batch.signal(job, "USR2")
    assert batch.ended(job).why is Why.DONE
    assert batch.output(job) == b"up\none\ntwo\n"


@pytest.mark.needs(Ability.NEW_TIME_LIMIT)
def test_time_limit(batch: BatchSystem) -> None:
    job = batch.submit(SHELL + "trap 'echo told; exit 0' TERM\necho up\nsleep 100 & wait\n")
    started(batch, job)
    assert isinstance(batch, NewTimeLimit)
    batch.leave(job, 2)
    assert batch.ended(job).why is Why.OUT_OF_TIME
    assert batch.output(job) == b"up\ntold\n"


def test_suspend_and_resume(batch: BatchSystem) -> None:
    job = batch.submit(SHELL + "echo up; while [ ! -e go ]; do echo $(date +%s.%N) >> ticks; sleep 0.2; done; date +%s.%N\n")
    started(batch, job)
    eventually((batch.work / "ticks").exists, "the job ticks")
    batch.suspend(job)
    batch.until(job, State.SUSPENDED)
    time.sleep(4)
    before, ticks = batch.machine_of(job), (batch.work / "ticks").read_bytes()
    time.sleep(6)
    after = batch.machine_of(job)
    assert before is not None
    assert after is not None
    assert after.cpu == before.cpu
    assert (batch.work / "ticks").read_bytes() == ticks
    resumed = time.time()
    batch.resume(job)
    batch.until(job, State.RUNNING)
    eventually(lambda: len((batch.work / "ticks").read_bytes()) > len(ticks) + 60, "the job goes on")
    (batch.work / "go").touch()
    now = time.time()
    assert batch.ended(job).why is Why.DONE
    assert abs(float(batch.output(job).split()[-1]) - now) < 2
    record, after_it = batch.record(job), (batch.work / "ticks").read_bytes().removeprefix(ticks).split()
    assert record["machine"]["start"] == "template", record["machine"]["cold_reason"]
    # The first may have been on its way when the machine was paused. The others are a fifth of a second apart.
    assert all(resumed - 0.01 <= float(tick) < now + 1 for tick in after_it[1:]), (resumed, after_it)
    for name in ("go", "ticks"):
        (batch.work / name).unlink()


def test_suspend_while_starting(batch: BatchSystem) -> None:
    job = batch.submit(SHELL + "sleep 2; date +%s.%N\n")
    eventually(lambda: batch.machine_of(job), "the machine was spawned", 20)
    batch.suspend(job)
    time.sleep(4)
    batch.resume(job)
    assert batch.ended(job).why is Why.DONE, batch.errors(job)
    assert abs(float(batch.output(job)) - time.time()) < 5


def test_requeue(batch: BatchSystem) -> None:
    job = batch.submit(LONG_ONCE, JobRequest(requeue=True))
    started(batch, job)
    (batch.work / "second").touch()
    batch.requeue(job)
    assert batch.ended(job, 150).why is Why.DONE, f"{batch.output(job).decode()}\n{batch.errors(job)}"
    (batch.work / "second").unlink()
    assert len(set(batch.output(job).split(b"\n")) - {b""}) == 2


# What a job leaves running, and what is killed under it


def test_orphans_in_the_guest_end_with_the_job(batch: BatchSystem) -> None:
    job = batch.submit(SHELL + "setsid sh -c 'sleep 100; echo late' & (sleep 100 &) & echo up\n")
    begun = time.monotonic()
    assert batch.ended(job).why is Why.DONE
    assert time.monotonic() - begun < 20
    assert batch.output(job) == b"up\n"


def test_orphaned_grandchildren_on_the_host_end_with_the_job(batch: BatchSystem) -> None:
    mark = f"86{os.getpid() % 1000:03d}"
    native = f"setsid sh -c 'sleep {mark} & sleep {mark}' & (setsid sleep {mark} &) & sleep 1; echo up\n"
    job = batch.submit(SHELL + native, JobRequest(image=None))
    assert batch.ended(job).why is Why.DONE, batch.errors(job)
    eventually(lambda: not _sleeping(mark), "they are gone", 15, lambda: _sleeping(mark))


def _sleeping(seconds: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found += [str(path)] if path.read_bytes().startswith(f"sleep\0{seconds}".encode()) else []
    return found


def test_the_job_shell_is_killed(batch: BatchSystem) -> None:
    job = batch.submit(SHELL + "echo up; sleep 100\n")
    machine = started(batch, job)
    os.kill(machine.owner, signal.SIGKILL)
    assert (batch.ended(job).why, batch.ended(job).signal) == (Why.FAILED, 9)
    eventually(lambda: batch.machine_of(job) is None, "the machine is gone", 5)


def test_qemu_is_killed(batch: BatchSystem) -> None:
    job = batch.submit(SHELL + "echo up; sleep 100\n")
    os.kill(started(batch, job).pid, signal.SIGKILL)
    assert (batch.ended(job).why, batch.ended(job).status) == (Why.FAILED, 125)
    assert "QEMU was killed by signal 9" in batch.errors(job)
    assert batch.record(job)["end"]["reason"] == "machine-killed"


def test_the_batch_systems_worker_is_killed(batch: BatchSystem) -> None:
    job = batch.submit(SHELL + "echo up; sleep 100\n")
    started(batch, job)
    os.kill(batch.worker(job), signal.SIGKILL)
    eventually(lambda: batch.machine_of(job) is None, "the machine is gone", 5)
    batch.cancel(job)
    batch.ended(job)


def test_the_nodes_daemon_is_killed(batch: BatchSystem) -> None:
    node = batch.nodes[0]
    job = batch.submit(SHELL + "echo up; sleep 6; echo end\n", JobRequest(node=node))
    started(batch, job)
    batch.kill_daemon(node)
    time.sleep(1)
    assert batch.machine_of(job) is not None
    batch.start_daemon(node)
    assert batch.ended(job).why is Why.DONE
    assert batch.output(job) == b"up\nend\n"


def test_a_node_is_restarted(batch: BatchSystem) -> None:
    node = batch.nodes[0]
    job = batch.submit(LONG_ONCE, JobRequest(node=node, requeue=True))
    first = started(batch, job)
    (batch.work / "second").touch()
    batch.fail_node(node)
    assert batch.ended(job, 180).why is Why.DONE, batch.errors(job)
    (batch.work / "second").unlink()
    ran = [record for record in batch.records() if record["batch"].get("job") == job]
    assert len({record["id"] for record in ran}) == 2
    assert batch.record(job)["id"] != first.identity
