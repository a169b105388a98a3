"""What is Slurm's own: steps, terminals, heterogeneous jobs, its way to say things."""

from __future__ import annotations

import contextlib
import os
import pty
import pwd
import re
import select
import subprocess
import time
from pathlib import Path

import pytest

from dayfly import settings
from dayfly.batch.jobshell.allocation import Allocation, Host, shape
from dayfly.image.search import Libraries
from dayfly.machine.config import Network
from dayfly.provision.templates.creation import build
from dayfly.provision.templates.store import Kind
from tests.framework.batch import BatchSystem, JobRequest, NewTimeLimit, Refusal, State, Why
from tests.framework.installation import eventually
from tests.framework.slurm import CGROUPS, Cluster

SHELL = "#!/bin/sh\n"


def salloc(cluster: Cluster, script: str, *options: str) -> tuple[int, str, str]:
    """A script on the submit host, in an allocation."""
    done = cluster.run("salloc", *options, "sh", "-c", script)
    return done.status, done.out.decode(), done.err


def test_steps_in_an_allocation_have_a_machine_each(cluster: Cluster) -> None:
    script = "uname -n; srun uname -n; srun uname -n; srun --vm-image=none uname -n; srun sh -c 'exit 5'"
    status, out, err = salloc(cluster, script, "--vm-image=debian:12")
    assert status == 5, err
    here, first, second, native = out.split()
    assert first.startswith("dayfly-")
    assert second.startswith("dayfly-")
    assert len({first, second}) == 2
    assert here == native == os.uname().nodename


def test_the_shell_of_an_interactive_step_is_native(cluster: Cluster) -> None:
    conf = cluster.folder / "interactive.conf"
    step = 'LaunchParameters=use_interactive_step\nInteractiveStepOptions="--interactive --preserve-env sh"\n'
    conf.write_text(cluster.conf.read_text() + step)
    shell = {"SLURM_CONF": str(conf), "SHELL": "/bin/sh"}
    typed = b"uname -n; echo $SLURMD_NODENAME\nSLURM_CONF=%s srun uname -n\n" % bytes(cluster.conf)
    done = cluster.run("salloc", "--vm-image=debian:12", "--nodelist=n2", stdin=typed, extra=shell)
    here, node, step_host = done.out.decode().split()
    assert (here, node) == (os.uname().nodename, "n2"), done.err
    assert step_host.startswith("dayfly-")


def test_a_step_in_an_image_that_there_is_not(cluster: Cluster) -> None:
    """Steps are not submitted: the node says it."""
    status, out, err = salloc(cluster, "srun --vm-image=debian:99 echo never")
    assert (status, out) == (125, "")
    assert "there is no image debian:99" in err


def test_a_step_chooses_an_image_in_a_native_job(batch: BatchSystem, cluster: Cluster) -> None:
    job = batch.submit(SHELL + "uname -n; srun --vm-image=debian:12 uname -n; srun uname -n\n", JobRequest(image=None))
    assert batch.ended(job).why is Why.DONE, batch.errors(job)
    outer, step, other = batch.output(job).decode().split()
    assert (outer == other, step.startswith("dayfly-")) == (True, True)


def test_tasks_of_a_parallel_step_share_the_allocation(batch: BatchSystem, cluster: Cluster) -> None:
    done = cluster.run("srun", "-n2", "-N1", "--label", "--mem=1200M", "--vm-image=debian:12", "sh", "-c", "nproc; uname -n")
    assert done.status == 0, done.err
    lines = sorted(done.out.decode().splitlines())
    assert [line for line in lines if line.endswith(": 1")] == ["0: 1", "1: 1"]
    records = [record for record in batch.records() if record["batch"].get("step") == "0" and record["host"] and record["end"]]
    two = sorted(records, key=lambda record: str(record["begun"]))[-2:]
    assert {record["batch"]["task"] for record in two} == {"0", "1"}
    assert sum(record["machine"]["memory"] for record in two) <= (1200 - 2 * 256) << 20


def test_two_nodes_when_asked_for(cluster: Cluster) -> None:
    done = cluster.run("srun", "-N2", "-n2", "--vm-image=debian:12", "sh", "-c", "echo $SLURMD_NODENAME $(uname -n)")
    assert done.status == 0, done.err
    nodes, hosts = zip(*(line.split() for line in done.out.decode().splitlines()), strict=True)
    assert (set(nodes), len(set(hosts))) == ({"n1", "n2"}, 2)


def test_a_heterogeneous_job_in_two_images(cluster: Cluster) -> None:
    script = "srun --het-group=0 --vm-image=debian:12 uname -n; srun --het-group=1 uname -n"
    status, out, err = salloc(cluster, script, "-n1", ":", "-n1")
    assert status == 0, err
    first, second = out.split()
    assert (first.startswith("dayfly-"), second) == (True, os.uname().nodename)


def test_several_programs_are_refused(batch: BatchSystem, cluster: Cluster) -> None:
    (batch.work / "programs").write_text("0 echo one\n1 echo two\n")
    done = cluster.run("srun", "-n2", "--vm-image=debian:12", "--multi-prog", "programs")
    assert done.status == 125
    assert "a machine runs one program" in done.err
    native = cluster.run("srun", "-n2", "--multi-prog", "programs")
    assert sorted(native.out.split()) == [b"one", b"two"]


@pytest.mark.parametrize("option", ["--vm-image=a b", "--vm-boot=perhaps", "--vm-network=all", "--vm-share=relative"])
def test_options_are_checked_at_submission(cluster: Cluster, option: str) -> None:
    for command in (["srun", option, "true"], ["sbatch", option, "--wrap=true"], ["salloc", option, "true"]):
        done = cluster.run(*command)
        assert done.status != 0
        assert f"dayfly: {option.replace('=', ' ')} is" in done.err


def test_a_network_and_a_systemd_image(batch: BatchSystem, cluster: Cluster) -> None:
    script = "cat /sys/class/net/*/address; ps -o comm= 1"
    wanted = ("--mem=900M", "--vm-image=debian:12", "sh", "-c", script)
    bare = cluster.run("srun", "--vm-network=none", *wanted)
    assert bare.out.split() == [b"00:00:00:00:00:00", b"init"], bare.err
    system = cluster.run("srun", "--vm-network=nat", "--vm-boot=system", "--vm-image=debian:12-system", *wanted[:1], *wanted[2:])
    assert (len(system.out.split()), system.out.split()[-1]) == (3, b"systemd"), (system.out, system.err)


@pytest.mark.parametrize("queue", ["request", "always"])
@pytest.mark.parametrize("tasks", [1, 2])
@pytest.mark.parametrize("status", ["0", "3"])
@pytest.mark.usefixtures("cluster")
def test_the_sites_task_prolog(batch: BatchSystem, queue: str, tasks: int, status: str) -> None:
    """As Slurm runs it itself, also for a job that runs natively in a partition of the job shell's."""
    script = SHELL + 'echo "$FROM_PROLOG|${TO_BE_REMOVED:-removed}"\n'
    asking = {"SLURM_ASKS_TASK_PROLOG": status, "TO_BE_REMOVED": "there"}
    native = batch.submit(script, JobRequest(image=None, environment=asking))
    image = None if queue == "always" else "debian:12"
    job = batch.submit(script, JobRequest(image=image, queue=queue, tasks=tasks, environment=asking))
    assert batch.ended(job) == batch.ended(native)
    assert batch.output(job) == batch.output(native)
    assert batch.output(job).splitlines()[0] == b"the site says hello"
    assert ("TaskProlog failed" in batch.errors(job)) == ("TaskProlog failed" in batch.errors(native)) == (status == "3")


def test_none_in_a_partition_that_always_has_machines(batch: BatchSystem) -> None:
    with pytest.raises(Refusal, match="every job of always runs in a virtual machine"):
        batch.submit(SHELL + "true\n", JobRequest(image="none", queue="always"))


def test_a_signal_before_the_time_limit(batch: BatchSystem, cluster: Cluster) -> None:
    script = "#!/bin/sh\n#SBATCH --signal=B:USR1@5 --time=10 --vm-image=debian:12 --output=%x.%j.%N --error=/dev/null\n"
    script += "trap 'echo told; exit 0' USR1\necho up\nwhile :; do sleep 0.2; done\n"
    done = cluster.run("sbatch", "--parsable", "--job-name=named", stdin=script.encode())
    job = done.out.decode().strip()
    eventually(lambda: [path for path in batch.work.glob(f"named.{job}.*") if path.read_bytes()], "the job is up", 30)
    assert isinstance(batch, NewTimeLimit)
    batch.leave(job, 45)  # slurmctld looks every 30 seconds
    assert batch.ended(job, 80).why is Why.DONE
    (output,) = batch.work.glob(f"named.{job}.*")
    assert output.read_text() == "up\ntold\n"
    assert batch.record(job)["name"] == "named"


@pytest.mark.parametrize("memory", [385, 900])
def test_a_template_is_made_within_the_jobs_memory(batch: BatchSystem, cluster: Cluster, memory: int) -> None:
    """It is saved in memory, and that is the job's. What a kernel can take back (files that were read) does not count."""
    job = batch.submit(SHELL + "echo up; sleep 1\n", JobRequest(memory=memory, node="n1"))
    peaks = [0]
    cgroup = CGROUPS / f"memory/slurm_n1/uid_{pwd.getpwnam(cluster.user).pw_uid}/job_{job}"

    def watched() -> bool:
        peaks.append(unreclaimable(cgroup))
        return max(peaks) > 0 and not cgroup.exists()

    eventually(watched, "the job has ended", 90, lambda: cluster.job(job))
    assert batch.ended(job).why is Why.DONE, batch.errors(job)
    machine = batch.record(job)["machine"]
    assert machine["start"] == "template", machine["cold_reason"]
    assert 0 < max(peaks) <= machine["memory"] + (128 << 20)


def test_a_template_that_was_made_ahead_for_the_site(batch: BatchSystem, cluster: Cluster) -> None:
    """As root, by what `dayfly template build --system` does; the settings are not where that looks for them."""
    assert batch.ended(batch.submit(SHELL + "true\n")).why is Why.DONE  # the user's folders are his own
    site = settings.load(cluster.settings)
    wanted = shape(Allocation(1, 777 << 20), Host(1, 777 << 20, 2), site.batch_overhead)
    with Libraries(site).open("system/debian:12") as image:
        template = build(
            image,
            site,
            Kind.SYSTEM,
            shape=wanted,
            scratch=site.scratch_size,
            boot=None,
            network=Network.NONE,
            shares=2,
            notify=print,
        )
    template.close()
    job = batch.submit(SHELL + "true\n", JobRequest(memory=777))
    assert batch.ended(job).why is Why.DONE, batch.errors(job)
    record = batch.record(job)
    assert record["machine"]["template"] == template.name
    job = batch.submit(SHELL + "echo fine\n", JobRequest(memory=777, queue="always"))
    assert batch.ended(job).why is Why.DONE, batch.errors(job)
    assert batch.record(job)["machine"]["template"] == template.name


def test_where_all_jobs_have_machines_the_users_own_templates_and_caches_are_not_used(
    batch: BatchSystem, cluster: Cluster
) -> None:
    """A job that shares those folders can write to them: the next machine would begin with what it wrote."""
    first = batch.submit(SHELL + "true\n", JobRequest(image="debian:12"))
    assert batch.ended(first).why is Why.DONE, batch.errors(first)
    own = cluster.folder / "templates" / cluster.user
    assert list(own.glob("*/template.json"))
    empties = list((cluster.folder / "cache" / cluster.user / "scratch").iterdir())
    assert empties
    for empty in empties:
        os.truncate(empty, empty.stat().st_size)  # as its owner could: with this it is no filesystem
        with empty.open("r+b") as file:
            file.write(bytes(64 << 10))
    job = batch.submit(SHELL + "echo fine\n", JobRequest(queue="always"))
    assert batch.ended(job).why is Why.DONE, batch.errors(job)
    assert batch.output(job) == b"fine\n"
    machine = batch.record(job)["machine"]
    assert (machine["start"], "the user's own are not used" in machine["cold_reason"]) == ("cold", True)
    for empty in empties:
        empty.unlink()


def unreclaimable(cgroup: Path) -> int:
    """Bytes of a job that its node cannot take back."""
    with contextlib.suppress(OSError):
        fields = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        kernel = int((cgroup / "memory.kmem.usage_in_bytes").read_text())
        return int(fields["total_rss"]) + int(fields["total_shmem"]) + kernel
    return 0


class Terminal:
    """srun --pty at a terminal."""

    def __init__(self, cluster: Cluster, *command: str) -> None:
        self.master, slave = pty.openpty()
        self.seen = b""
        self.process = cluster.popen(
            *("srun", "--pty", *command), stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)

    def until(self, pattern: bytes, seconds: float = 30) -> bytes:
        end = time.monotonic() + seconds
        while not (match := re.search(pattern, self.seen)):
            assert time.monotonic() < end, self.seen
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.master, 65536)
                except OSError:
                    break
        assert match or re.search(pattern, self.seen), self.seen
        return self.seen

    def type(self, text: bytes) -> None:
        os.write(self.master, text)


def test_a_terminal(cluster: Cluster) -> None:
    terminal = Terminal(cluster, "--vm-image=debian:12", "bash", "--norc")
    try:
        terminal.type(b"tty; uname -n; stty size\n")
        terminal.until(rb"/dev/pts/\d+\r\ndayfly-")
        terminal.type(b"sleep 100\n")
        time.sleep(1)
        terminal.type(b"\x03")
        terminal.type(b"echo st$?atus\n")
        terminal.until(rb"st130atus")
        subprocess.run(["stty", "rows", "33", "cols", "101"], stdin=terminal.master, check=True)
        os.killpg(terminal.process.pid, 28)
        time.sleep(1)
        terminal.type(b"stty size; exit 6\n")
        terminal.until(rb"33 101\r\n")
        assert terminal.process.wait(20) == 6
    finally:
        terminal.process.kill()
        os.close(terminal.master)


def test_a_machine_dies_with_a_cancelled_step(batch: BatchSystem, cluster: Cluster) -> None:
    with cluster.popen("srun", "--vm-image=debian:12", "sleep", "100", stderr=subprocess.PIPE) as srun:
        eventually(batch.machines, "a machine was spawned", 20)
        cluster.admin("scancel", "--user", cluster.user)
        srun.wait(30)
    eventually(lambda: not batch.machines(), "the machine is gone", 15)


def test_suspended_twice(batch: BatchSystem) -> None:
    job = batch.submit(SHELL + "echo up; sleep 4; echo end\n")
    eventually(lambda: (batch.work / f"{job}.out").exists() and batch.output(job), "the job is up", 30)
    for _ in range(2):
        batch.suspend(job)
        batch.until(job, State.SUSPENDED)
        time.sleep(3)
        batch.resume(job)
        batch.until(job, State.RUNNING)
        time.sleep(0.5)
    assert batch.ended(job).why is Why.DONE
    assert batch.output(job) == b"up\nend\n"


@pytest.mark.parametrize("program", ["no-such-program", "/no/such/program", "/etc/passwd", "./script"])
def test_a_program_that_cannot_be_executed(cluster: Cluster, program: str) -> None:
    """Without a machine it ends as in Slurm alone: the same words, the same status."""
    script = cluster.work / "script"
    script.write_text("neither a script nor a program")
    script.chmod(0o755)
    bare = cluster.run("srun", program)
    told = cluster.run("srun", "--vm-image=none", program)
    assert bare.status != 0
    assert (told.status, told.out, _words(told.err)) == (bare.status, bare.out, _words(bare.err))


def _words(text: str) -> list[str]:
    """The lines, in no order, for two processes write them; and without the node, which Slurm names where a host has several."""
    return sorted(re.sub(r"-n[12]:| n[12]:", ":", line) for line in text.splitlines())
