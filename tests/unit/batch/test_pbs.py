"""PBS: the hook, run on a stand-in for the module `pbs` as the Hooks Guide documents it, and what is read of a job."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

from dayfly.batch.adapters.pbs.apply import exec_folder
from dayfly.batch.adapters.pbs.job import allocation, folders, hosts, read
from dayfly.batch.adapters.pbs.setup import files, hook
from dayfly.batch.jobshell.allocation import Allocation
from dayfly.batch.jobshell.request import Request, parse
from dayfly.errors import Refused
from dayfly.job.description import Folder
from dayfly.settings import Queue, Settings
from tests.unit.batch.pbs_stand_in import Event, executed, job, launch_event, run, submit_event

MIB = 1024**2


def words_of(event: Event) -> Request:
    """The job shell's words in what is launched."""
    _, argv = executed(event)
    return parse(argv[argv.index("pbs") + 1 :])


def test_the_hook_is_for_old_pythons_too() -> None:
    ast.parse(hook(Settings(), "/opt/dayfly", "/etc/s.toml"), feature_version=(3, 6))


def test_a_job_without_a_wish_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    event = launch_event(job(ncpus=2))
    assert run(monkeypatch, event) == ""
    assert executed(event) == ("/bin/bash", ["-bash"])


def test_the_job_shell_is_launched_in_the_place_of_the_jobs_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    event = launch_event(job("(n1:ncpus=2:mem=4194304kb)", vm_image="debian:12", vm_boot="system"))
    assert run(monkeypatch, event, hook(Settings(), "/opt/dayfly", "/etc/s.toml")) == ""
    progname, argv = executed(event)
    assert (progname, argv[:4]) == ("/bin/bash", ["-bash", "--noprofile", "-p", "-c"])
    assert argv[6:10] == ["/opt/dayfly", "job-shell", "pbs", "environment=3"]
    assert words_of(event) == Request(
        ("/bin/bash", "-l"),
        image="debian:12",
        boot="system",
        settings="/etc/s.toml",
        environment=3,
        memory_mib=4096,
        cpus_per_task=2,
    )


def test_arguments_go_along(monkeypatch: pytest.MonkeyPatch) -> None:
    event = launch_event(job(vm_image="debian:12"), "prog", "a b", "--", progname="/usr/bin/prog")
    run(monkeypatch, event)
    assert words_of(event).command == ("/usr/bin/prog", "a b", "--")


def test_quotes_around_a_list_are_no_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    event = launch_event(job(vm_image="a:1", vm_share='"/data,/sw:ro"', vm_boot=""), "bash")
    run(monkeypatch, event)
    assert (words_of(event).share, words_of(event).boot) == ("/data,/sw:ro", "")


@pytest.mark.parametrize(
    ("progname", "argv", "expected"),
    [
        ("/bin/bash", [], ("/bin/bash", "-l")),  # a script's, or an interactive job's
        ("/usr/bin/tcsh", [], ("/usr/bin/tcsh", "-l")),
        ("/usr/bin/python3", [], ("/usr/bin/python3",)),  # qsub -S
        ("/bin/bash", ["-bash"], ("/bin/bash", "-l")),  # as another hook left it
        ("/bin/bash", ["bash"], ("/bin/bash",)),  # qsub -- bash
        ("/bin/bash", ["bash", "-c", "hostname"], ("/bin/bash", "-c", "hostname")),
        ("hostname", ["hostname"], ("hostname",)),  # pbsdsh
    ],
)
def test_a_jobs_shell_is_a_login_shell(
    monkeypatch: pytest.MonkeyPatch, progname: str, argv: list[str], expected: tuple[str, ...]
) -> None:
    event = launch_event(job(vm_image="a:1"), *argv, progname=progname)
    run(monkeypatch, event)
    assert words_of(event).command == expected


@pytest.mark.parametrize(
    ("vnodes", "resources", "expected"),
    [
        ("(n1:ncpus=2:mem=1gb+n1[1]:ncpus=1)+(n2:ncpus=4:mem=8gb)", {}, (3, 1024)),
        ("(n2:ncpus=4:mem=8gb)+(n3:ncpus=4)", {"ncpus": 8, "mem": "16gb"}, (0, 0)),
        ("(machine[0]:vntype=x)", {"ncpus": 3, "mem": "512mw"}, (3, 4096)),
        ("", {"ncpus": 1, "mem": "1048576"}, (1, 1)),
        ("(N1.example.org:ncpus=1:mem=10)", {}, (1, 0)),
        ("(n1:ncpus=many:mem=all)", {"ncpus": "x", "mem": "9" * 30}, (0, 0)),
    ],
)
def test_what_the_job_has_on_this_host(
    monkeypatch: pytest.MonkeyPatch, vnodes: str, resources: dict[str, object], expected: tuple[int, int]
) -> None:
    event = launch_event(job(vnodes, vm_image="a:1", **resources), "bash")
    run(monkeypatch, event)
    request = words_of(event)
    assert (request.cpus_per_task, request.memory_mib) == expected


def test_a_job_that_was_started_before(monkeypatch: pytest.MonkeyPatch) -> None:
    of = job(vm_image="a:1")
    for count, restarts in ((3, 2), (None, 0), (0, 0)):
        of.run_count = count
        event = launch_event(of, "bash")
        run(monkeypatch, event)
        assert words_of(event).restarts == restarts


def test_queues_all_of_whose_jobs_have_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    for settings, launched in (
        (Settings(batch_queues={"short": Queue("always")}), True),
        (Settings(batch_queues={"long": Queue("always")}), False),
        (Settings(batch_vm="always"), True),
    ):
        event = launch_event(job(), "bash")
        run(monkeypatch, event, hook(settings, "/opt/dayfly", ""))
        assert ("job-shell" in executed(event)[1]) is launched


def test_what_asks_for_nothing_is_not_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    of = job(ncpus=1)
    assert run(monkeypatch, submit_event(of)) == ""  # no test here may start a process
    of.Resource_List, of.queue = None, ""
    assert run(monkeypatch, submit_event(of), hook(Settings(batch_queues={"long": Queue("always")}), "/none", "")) == ""


VARIABLES = {
    b"PBS_JOBID": b"12[3].head",
    b"PBS_ARRAY_ID": b"12[].head",
    b"PBS_ARRAY_INDEX": b"3",
    b"PBS_JOBNAME": b"sim",
    b"PBS_QUEUE": b"short",
    b"PBS_ENVIRONMENT": b"PBS_BATCH",
    b"NCPUS": b"2",
}


def test_who_a_job_is() -> None:
    request = Request(("/bin/bash",), memory_mib=2000, cpus_per_task=4, restarts=1)
    seen = read(request, VARIABLES)
    assert {**seen.identity, "node": ""} == {
        "job": "12[3].head",
        "array_job": "12[].head",
        "array_task": "3",
        "name": "sim",
        "queue": "short",
        "restarts": "1",
        "node": "",
    }
    assert (seen.queue, seen.parallel, seen.script_by_name, seen.outlives_parent) == ("short", False, True, True)
    assert not read(request, {**VARIABLES, b"PBS_ENVIRONMENT": b"PBS_INTERACTIVE"}).script_by_name


def test_what_a_job_has() -> None:
    assert allocation(Request(("a",), memory_mib=2000, cpus_per_task=4), VARIABLES, -1) == Allocation(4, 2000 * MIB, own=True)
    assert allocation(Request(("a",)), VARIABLES, 9 * MIB) == Allocation(2, 0, own=True, address_space=9 * MIB)


def test_parallel_jobs_have_several_hosts(tmp_path: Path) -> None:
    assert hosts(b"n1\nn1\n") == 1
    assert hosts(b"n1\nn2\nn1") == 2
    assert hosts(b"") == 0
    nodes = tmp_path / "nodes"
    nodes.write_text("n1\nn2\n")
    assert read(Request(("a",)), {**VARIABLES, b"PBS_NODEFILE": bytes(nodes)}).parallel
    assert not read(Request(("a",)), {**VARIABLES, b"PBS_NODEFILE": bytes(tmp_path)}).parallel


def test_the_file_that_names_a_jobs_hosts_is_there(tmp_path: Path) -> None:
    nodes = tmp_path / "aux/12[3].head"
    nodes.parent.mkdir()
    nodes.write_text("n1\n")
    for path, shared in ((nodes, True), (nodes.parent, False), (tmp_path / "none", False), (Path("/etc/passwd"), False)):
        folders_ = read(Request(("a",)), {**VARIABLES, b"PBS_NODEFILE": bytes(path)}).folders
        assert (Folder(str(nodes.parent), readonly=True) in folders_) is shared
        assert len(folders_) == shared
    assert read(Request(("a",)), {**VARIABLES, b"PBS_NODEFILE": b"aux/12.head"}).folders == ()


def test_relative_folders_are_refused() -> None:
    with pytest.raises(Refused, match="the shared folder 'data' is not an absolute path"):
        read(Request(("a",), share="/x,data"), VARIABLES)


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"mem": "64mb"}, ["memory_mib=64"]),
        ({"mem": "64kb"}, ["memory_mib=1"]),
        ({"select": "1:ncpus=2:mem=64mb:vmem=2gb", "pvmem": "1gb"}, ["memory_mib=64", "address_space_mib=1024"]),
        ({"vmem": "700mb"}, ["memory_mib=0", "address_space_mib=700"]),
        ({"pvmem": "700mb", "vmem": "1gb"}, ["memory_mib=0", "address_space_mib=700"]),
        ({"select": "2:vmem=1mb"}, ["memory_mib=0"]),
    ],
)
def test_the_memory_that_a_submitted_job_asks_for(
    monkeypatch: pytest.MonkeyPatch, resources: dict[str, object], expected: list[str]
) -> None:
    asked: list[list[str]] = []

    class Popen:
        returncode = 0

        def __init__(self, command: list[str], **_: object) -> None:
            asked.append(command)

        def communicate(self, timeout: float) -> tuple[bytes, None]:
            del timeout
            return b"", None

    monkeypatch.setattr(subprocess, "Popen", Popen)
    run(monkeypatch, submit_event(job(vm_image="a:1", **resources)))
    assert asked[0][asked[0].index("image=a:1") + 1 : asked[0].index("--queue")] == expected


def test_folders_that_pbs_made(tmp_path: Path) -> None:
    made = tmp_path / "pbs.12[3].head"
    made.mkdir()
    assert folders({**VARIABLES, b"TMPDIR": bytes(made), b"PBS_JOBDIR": b"/root"}) == (Folder(str(made)),)
    assert folders({**VARIABLES, b"TMPDIR": bytes(tmp_path)}) == ()
    assert folders({b"TMPDIR": b"/tmp"}) == ()


def test_what_qmgr_is_told() -> None:
    shown = files(Settings(), "/opt/dayfly", "")
    assert list(shown) == ["dayfly_hook.py", "qmgr"]
    lines = shown["qmgr"].splitlines()
    assert lines[0] == "create resource vm_image type=string,flag=m"
    assert 'set hook dayfly event = "queuejob,execjob_launch"' in lines
    assert lines.index("create hook dayfly") < lines.index("import hook dayfly application/x-python default dayfly_hook.py")


def test_where_pbs_is() -> None:
    assert exec_folder("PBS_SERVER=head\nPBS_EXEC=/usr/local/pbs # ours\n") == "/usr/local/pbs"
    assert exec_folder("# PBS_EXEC=/none\nPBS_EXEC = /a\nPBS_EXEC=/b\n") == "/b"
    for text in ("", "PBS_EXEC=\n", "PBS_EXEC=pbs\n", "PBS_HOME=/var/spool/pbs\n"):
        assert exec_folder(text) == "/opt/pbs"
