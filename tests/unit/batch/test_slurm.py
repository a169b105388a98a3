import resource
from pathlib import Path

from dayfly.batch.adapters.slurm.job import read
from dayfly.batch.adapters.slurm.setup import files, job_submit, plugstack
from dayfly.batch.jobshell.allocation import Allocation
from dayfly.batch.jobshell.request import Request
from dayfly.job.description import Folder
from dayfly.settings import Queue, Settings

MIB = 1024**2
BATCH = {
    b"SLURM_JOB_ID": b"42",
    b"SLURM_ARRAY_JOB_ID": b"40",
    b"SLURM_ARRAY_TASK_ID": b"2",
    b"SLURM_JOB_PARTITION": b"short",
    b"SLURM_JOB_ACCOUNT": b"physics",
    b"SLURM_CPUS_ON_NODE": b"4",
    b"SLURM_NTASKS": b"1",
    b"SLURM_JOB_NUM_NODES": b"1",
    b"SLURM_RLIMIT_NOFILE": b"1024",
    b"SLURM_RLIMIT_CORE": b"18446744073709551615",
    b"SLURM_RLIMIT_STACK": b"U8192",
}
SCRIPT = "/var/spool/slurmd/job00042/slurm_script"


def test_a_batch_script() -> None:
    job = read(Request((SCRIPT,), memory_mib=2000), BATCH)
    assert job.identity == {
        "job": "42",
        "array_job": "40",
        "array_task": "2",
        "step": "batch",
        "partition": "short",
        "account": "physics",
    }
    assert (job.queue, job.parallel, job.allocation) == ("short", False, Allocation(4, 2000 * MIB))
    assert job.folders == (Folder("/var/spool/slurmd/job00042", readonly=True),)


def test_the_limits_that_slurm_has_not_set_yet() -> None:
    job = read(Request((SCRIPT,)), BATCH)
    limits = {resource.RLIMIT_NOFILE: 1024, resource.RLIMIT_CORE: -1, resource.RLIMIT_STACK: 8192}
    assert job.limits == limits
    assert job.internal == {b"SLURM_RLIMIT_NOFILE", b"SLURM_RLIMIT_CORE", b"SLURM_RLIMIT_STACK"}


def test_tasks_share_a_node() -> None:
    step = {**BATCH, b"SLURM_STEP_ID": b"0", b"SLURM_PROCID": b"1", b"SLURM_NTASKS": b"2"}
    job = read(Request(("a",), memory_mib=1200, cpus_per_task=2, tasks_here=2), step)
    assert (job.allocation, job.parallel) == (Allocation(2, 600 * MIB, 2), True)
    assert (job.identity["step"], job.identity["task"], job.folders) == ("0", "1", ())


def test_memory_for_each_cpu() -> None:
    assert read(Request((SCRIPT,)), {**BATCH, b"SLURM_MEM_PER_CPU": b"500"}).allocation == Allocation(4, 2000 * MIB)


def test_several_programs() -> None:
    step = {**BATCH, b"SLURM_STEP_ID": b"0"}
    assert read(Request(("conf", "0 hostname\n1 date\n")), step).several_programs
    assert not read(Request(("sh", "-c", "echo\ndate\n")), step).several_programs


def test_numbers_that_are_none() -> None:
    odd = {**BATCH, b"SLURM_CPUS_ON_NODE": b"many", b"SLURM_MEM_PER_NODE": b"9" * 40, b"SLURM_RLIMIT_AS": b"-1"}
    job = read(Request((SCRIPT,)), odd)
    assert job.allocation == Allocation(0, 0)
    assert resource.RLIMIT_AS not in job.limits


def test_plugstack() -> None:
    settings = Settings(batch_queues={"b": Queue("always"), "a": Queue("always"), "c": Queue("never")})
    assert plugstack(settings, "/p.so", "/d", "") == "required /p.so dayfly=/d partitions=a:b\n"
    assert plugstack(Settings(batch_vm="always"), "/p.so", "/d", "/s") == "required /p.so dayfly=/d settings=/s partitions=*\n"
    assert plugstack(Settings(), "/p.so", "/d", "") == "required /p.so dayfly=/d\n"
    assert plugstack(Settings(), "/p.so", "/d", "", "/t") == "required /p.so dayfly=/d task_prolog=/t\n"


def test_rules_as_lua() -> None:
    lua = job_submit(Settings(batch_images=("debian:1?", "user/*"), batch_queues={'a"b': Queue("never")}))
    assert '["a\\"b"] = { vm = "never"' in lua
    assert '"^system%/debian%:1.$", "^user%/.*$"' in lua
    assert "-- RULES" not in lua


def test_the_files() -> None:
    shown = files(Settings(), "/p.so", "/opt/my dayfly", "", Path("/etc/slurm"))
    assert list(shown) == ["plugstack.conf", "slurm.conf", "job_submit.lua", "dayfly-epilog.sh"]
    assert shown["slurm.conf"].splitlines()[2] == "Epilog=/etc/slurm/dayfly-epilog.sh"
    assert "'/opt/my dayfly' batch epilog slurm" in shown["dayfly-epilog.sh"]


def test_a_prolog_makes_the_folders_that_have_users_names() -> None:
    settings = Settings(
        records_folder=Path("/var/spool/dayfly/{user}/records"),
        cache_folder=Path("/var/spool/dayfly/{user}/cache"),
        templates_user=Path("/local disk/of-{user}/a/{user}"),
    )
    shown = files(settings, "/p.so", "/d", "", Path("/etc/slurm"))
    assert "Prolog=/etc/slurm/dayfly-prolog.sh\n" in shown["slurm.conf"]
    places = """ '/local disk/of-'"$SLURM_JOB_USER" /var/spool/dayfly/"$SLURM_JOB_USER"; do\n"""
    assert places in shown["dayfly-prolog.sh"]
