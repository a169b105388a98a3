"""What Grid Engine says of a job, and what a site adds to its configuration."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.batch.adapters.gridengine import setup
from dayfly.batch.adapters.gridengine.job import allocation, command, parse_config, parse_memory, read
from dayfly.batch.jobshell.request import Request
from dayfly.job.description import Folder
from dayfly.settings import Queue, Settings

VARIABLES = {
    b"JOB_ID": b"7",
    b"JOB_NAME": b"sim",
    b"QUEUE": b"all.q",
    b"HOSTNAME": b"n1",
    b"SGE_ACCOUNT": b"sge",
    b"SGE_TASK_ID": b"undefined",
    b"NHOSTS": b"1",
    b"NSLOTS": b"2",
    b"RESTARTED": b"0",
    b"SGE_STARTER_SHELL_PATH": b"/bin/sh",
    b"SGE_STARTER_SHELL_START_MODE": b"unix_behavior",
    b"SGE_STARTER_USE_LOGIN_SHELL": b"true",
}


def test_a_job(tmp_path: Path) -> None:
    (tmp_path / "job_scripts").mkdir()
    script = tmp_path / "job_scripts/7"
    script.write_text("#!/bin/sh\ntrue\n")
    own = tmp_path / "7.1.all.q"
    own.mkdir()
    job = read(Request((str(script), "a")), {**VARIABLES, b"TMPDIR": str(own).encode()})
    assert (job.system, job.queue, job.parallel, job.restarts_known) == ("gridengine", "all.q", False, 1)
    assert job.identity == {"job": "7", "name": "sim", "queue": "all.q", "account": "sge", "node": "n1", "restarts": "0"}
    assert job.allocation.cpus == 2
    assert job.folders == (Folder(str(script.parent), readonly=True), Folder(str(own)))
    assert job.command == (str(script), "a")


def test_a_task_of_an_array_on_two_hosts() -> None:
    job = read(Request(("/x/job_scripts/7",)), {**VARIABLES, b"SGE_TASK_ID": b"3", b"NHOSTS": b"2", b"PE": b"mpi"})
    assert (job.identity["array_job"], job.identity["array_task"]) == ("7", "3")
    assert job.identity["parallel_environment"] == "mpi"
    assert job.parallel


@pytest.mark.parametrize("made", ["/tmp", "relative/7.1.all.q", "/none/7.1.all.q", ""])
def test_a_folder_that_grid_engine_did_not_make_is_not_shared_for_it(made: str) -> None:
    assert read(Request(("/x/y",)), {**VARIABLES, b"TMPDIR": made.encode()}).folders == ()


def test_what_this_host_gives_it() -> None:
    config = parse_config("pe_slots=4\nhost_slots=2\nqueue=all.q\nno line of it\n")
    given_ = allocation(config, {**VARIABLES, b"DAYFLY_MEMORY": b"512M"}, 3 << 30)
    assert (given_.cpus, given_.memory, given_.address_space, given_.own) == (2, 1 << 30, 3 << 30, True)
    assert allocation({}, VARIABLES, -1).cpus == 2
    assert allocation({"host_slots": "many"}, {}, -1).cpus == 1
    assert allocation({}, {}, -1).address_space == 0


@pytest.mark.parametrize(
    ("text", "size"),
    [("1024", 1024), ("1.5G", 3 << 29), ("2k", 2000), ("2K", 2048), ("", 0), ("M", 0), ("-1G", 0), ("INFINITY", 0), ("1e999", 0)],
)
def test_memory_as_grid_engine_writes_it(text: str, size: int) -> None:
    assert parse_memory(text) == size


@given(st.text(max_size=40))
def test_any_text_is_a_size_or_none(text: str) -> None:
    assert 0 <= parse_memory(text) < 1 << 62


@pytest.mark.parametrize(
    ("mode", "shell", "login", "has", "binary", "wanted"),
    [
        ("unix_behavior", "/bin/sh", True, True, False, ("s", "a")),
        ("unix_behavior", "/bin/sh", True, False, False, ("/bin/sh", "-l", "s", "a")),
        ("posix_compliant", "/bin/bash", False, True, False, ("/bin/bash", "s", "a")),
        ("posix_compliant", "/bin/csh", True, True, False, ("/bin/csh", "s", "a")),
        ("posix_compliant", "/bin/sh", True, False, True, ("s", "a")),
        ("", "", False, False, False, ("/bin/sh", "s", "a")),
    ],
)
def test_what_runs_a_script(mode: str, shell: str, login: bool, has: bool, binary: bool, wanted: tuple[str, ...]) -> None:
    variables = {
        b"SGE_STARTER_SHELL_START_MODE": mode.encode(),
        b"SGE_STARTER_SHELL_PATH": shell.encode(),
        b"SGE_STARTER_USE_LOGIN_SHELL": str(login).lower().encode(),
    }
    config = {"handle_as_binary": "1"} if binary else {}
    assert command(("s", "a"), config, variables, has_interpreter=has) == wanted


def test_the_jobs_file_is_not_the_users(tmp_path: Path) -> None:
    """What a user made says nothing, wherever the variable leads: here by a link."""
    (tmp_path / "real").write_text("host_slots=64\n")
    (tmp_path / "config").symlink_to(tmp_path / "real")
    assert read(Request(("/x/y",)), {**VARIABLES, b"SGE_JOB_SPOOL_DIR": str(tmp_path).encode()}).allocation.cpus == 2


def test_the_programs_have_the_sites_rules(tmp_path: Path) -> None:
    queues = {"vm": Queue(vm="always"), "b": Queue(vm="never"), "a.q": Queue(vm="always")}
    settings = replace(Settings(), batch_queues=queues)
    texts = setup.files(settings, "/opt/day fly", "/etc/own.toml", tmp_path)
    assert "always='a.q vm'\n" in texts["starter"]
    assert "'/opt/day fly' job-shell gridengine environment=3 \"settings=/etc/own.toml\"" in texts["starter"]
    assert f'. "{tmp_path}/util/resources/jsv/jsv_include.sh"' in texts["jsv"]
    assert "timeout 20 tail" in texts["method"]
    assert "always='*'\n" in setup.files(replace(settings, batch_vm="always"), "/x", "", tmp_path)["starter"]
    assert not any(word in text for text in texts.values() for word in ("ALWAYS", "PROGRAM", "SETTINGS", "GRACE", "INCLUDE"))
    assert shutil.which("bash")


def test_what_jobs_can_ask_for() -> None:
    lines = [line.split() for line in setup.complexes().values()]
    assert [line[0] for line in lines] == ["vm_image", "vm_boot", "vm_network", "vm_share", "m_mem_free"]
    assert all(len(line) == 8 for line in lines)


def test_a_prolog_only_where_folders_have_users_names() -> None:
    shown = setup.files(Settings(), "/d", "", Path("/sge"))
    assert setup.PROLOG not in shown
    assert "prolog" not in setup.queue(Settings(), Path("/sge/default/common/dayfly"))
    named = Settings(records_folder=Path("/var/spool/dayfly/{user}/records"))
    assert setup.queue(named, Path("/x"))["prolog"] == "root@/x/prolog $job_owner"
    assert 'for folder in /var/spool/dayfly/"$user"; do' in setup.files(named, "/d", "", Path("/sge"))[setup.PROLOG]
