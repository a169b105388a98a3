"""The hooks for PBS, HTCondor and Torque, run as those would run them. None of the three is here: the surroundings of a job are
stand-ins made from their documentation, and `dayfly` is a program that says what it was called with.
"""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.unit.batch.pbs_stand_in import executed, job, launch_event, run, submit_event

from dayfly.batch.adapters.htcondor import setup as htcondor
from dayfly.batch.adapters.pbs import setup as pbs
from dayfly.batch.adapters.torque import setup as torque
from dayfly.batch.jobshell.request import parse, variables
from dayfly.settings import Queue, Settings

STAND_IN = """\
#!{python} -IS
import json, os, sys
handed = [word.partition("=")[2] for word in sys.argv if word.startswith("environment=")]
given = os.fdopen(int(handed[0]), "rb").read().decode() if handed else ""
print(json.dumps({{"argv": sys.argv[1:], "environment": dict(os.environ), "given": given, "stdin": sys.stdin.read()}}))
"""
JOB = {"PATH": "/usr/bin:/bin", "HOME": "/home/ann", "PYTHONHOME": "/none", "LINES_OF": "a\nb", "EMPTY": ""}
SECURE = Settings(batch_queues={"secure": Queue("always")})


@dataclass(frozen=True)
class Called:
    """What the stand-in for dayfly saw."""

    argv: list[str]
    environment: dict[str, str]
    given: str
    stdin: str


@pytest.fixture
def dayfly(tmp_path: Path) -> str:
    return str(program(tmp_path / "bin of dayfly/dayfly", STAND_IN.format(python=os.path.realpath(sys.executable))))


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def execute(
    argv: list[str], environment: dict[str, str], stdin: str = "echo script\n", executable: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run it to its end. `executable`: what is executed, where the first of `argv` is but a name for it."""
    return subprocess.run(
        argv, executable=executable, env=environment, input=stdin, capture_output=True, text=True, check=False, timeout=30
    )


def called(argv: list[str], environment: dict[str, str], executable: str | None = None) -> Called:
    done = execute(argv, environment, executable=executable)
    assert done.stderr == ""
    return Called(**json.loads(done.stdout))


def check_handed_over(seen: Called, environment: dict[str, str]) -> None:
    """The job's variables are in the file, all of them as they are, and none of them is the job shell's."""
    handed = variables(seen.given.encode())
    assert {name: handed.get(name.encode(), b"?").decode() for name in environment} == environment
    assert set(seen.environment) <= {"PATH", "LC_ALL", "LC_CTYPE", "PYTHONNOUSERSITE", "PYTHONSAFEPATH"}
    assert seen.stdin == "echo script\n"


def test_what_the_hook_of_pbs_launches(monkeypatch: pytest.MonkeyPatch, dayfly: str, tmp_path: Path) -> None:
    (tmp_path / ".bash_profile").write_text("echo profile")  # which is nothing for the host, though pbs_mom calls it "-bash"
    (tmp_path / "env").write_text("echo env")
    job_has = JOB | {"HOME": str(tmp_path), "BASH_ENV": str(tmp_path / "env")}
    event = launch_event(job("(n1:ncpus=2:mem=2gb)", vm_image="debian:12", vm_network="nat"))
    assert run(monkeypatch, event, pbs.hook(Settings(), dayfly, "/etc/my site.toml")) == ""
    executable, argv = executed(event)
    seen = called(argv, job_has, executable)
    assert seen.argv[:2] == ["job-shell", "pbs"]
    request = parse(seen.argv[2:])
    assert (request.image, request.network, request.settings) == ("debian:12", "nat", "/etc/my site.toml")
    assert (request.command, request.memory_mib, request.cpus_per_task) == (("/bin/bash", "-l"), 2048, 2)
    check_handed_over(seen, job_has)


@pytest.mark.parametrize(
    ("status", "said", "refused"), [(0, "", ""), (125, "dayfly: not allowed (these are)\\n", "dayfly: not allowed (these are)")]
)
def test_pbs_asks_when_a_job_is_submitted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: int, said: str, refused: str
) -> None:
    asked = tmp_path / "asked"
    script = f'#!/bin/sh\nprintf "%s\\n" "$@" >{asked}\nprintf "{said}" >&2\nexit {status}\n'
    text = pbs.hook(Settings(), str(program(tmp_path / "bin/dayfly", script)), "/s")
    event = submit_event(job(vm_image="$(touch x)"))
    assert run(monkeypatch, event, text) == refused
    expected = ["batch", "check", "pbs", "image=$(touch x)", "memory_mib=0", "--queue", "short", "--settings", "/s"]
    assert asked.read_text().splitlines() == expected


@pytest.mark.parametrize(
    ("resources", "told"),
    [
        ({"mem": "64mb"}, "the job has 64 MiB of memory, but a machine needs "),
        ({"select": "1:ncpus=1:mem=64mb"}, "the job has 64 MiB of memory, but a machine needs "),
        ({"vmem": "512mb"}, "the job's address space is limited to 512 MiB, "),
        ({"pvmem": "512mb"}, "the job's address space is limited to 512 MiB, "),
        ({"vm_share": "data"}, "the shared folder 'data' is not an absolute path"),
        ({"mem": "2gb", "pvmem": "4gb", "vm_share": "/data"}, ""),
    ],
)
def test_pbs_refuses_what_no_machine_fits_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, resources: dict[str, object], told: str
) -> None:
    """The real command behind the hook."""
    (tmp_path / "settings.toml").write_text(f'[library]\nsystem = "{tmp_path}/none"\n')
    dayfly = program(tmp_path / "bin/dayfly", f'#!/bin/sh\nexec {sys.executable} -m dayfly "$@"\n')
    text = pbs.hook(Settings(), str(dayfly), str(tmp_path / "settings.toml"))
    said = run(monkeypatch, submit_event(job(vm_image="debian:12", **resources)), text)
    assert said.startswith(f"dayfly: {told}") if told else said == "", said


@pytest.mark.parametrize(
    ("named", "default", "queue"), [("secure@head", "short", "secure"), ("@head", "secure", "secure"), ("", "secure", "secure")]
)
def test_pbs_asks_for_the_queue_that_the_job_goes_into(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: str, default: str, queue: str
) -> None:
    asked = tmp_path / "asked"
    monkeypatch.setenv("PYTHONHOME", "/none")  # the server's own variables go no further
    script = f'#!/bin/sh\necho "$PYTHONHOME$*" >{asked}\n'
    of = job(select="ncpus=2:mem=4gb")
    of.queue = named
    text = pbs.hook(SECURE, str(program(tmp_path / "bin/dayfly", script)), "")
    assert run(monkeypatch, submit_event(of), text, default_queue=default) == ""
    assert asked.read_text() == f"batch check pbs memory_mib=4096 --queue {queue}\n"


def test_pbs_goes_on_where_dayfly_is_not_there_or_does_not_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    event = submit_event(job(vm_image="a:1"))
    assert run(monkeypatch, event, pbs.hook(Settings(), str(tmp_path / "none"), "")) == ""
    assert "cannot be asked" in event.logged[0]
    slow = pbs.hook(Settings(), str(program(tmp_path / "bin/dayfly", "#!/bin/sh\nexec sleep 30\n")), "")
    assert run(monkeypatch, event, slow.replace("PATIENCE = 20.0", "PATIENCE = 0.2")) == ""
    assert "does not answer" in event.logged[-1]


def slot(tmp_path: Path, job_ad: str, machine_ad: str = "Cpus = 1\n") -> dict[str, str]:
    """The variables of a job of HTCondor's, with its ClassAds."""
    (tmp_path / ".job.ad").write_text(job_ad)
    (tmp_path / ".machine.ad").write_text(machine_ad)
    return JOB | {"_CONDOR_JOB_AD": str(tmp_path / ".job.ad"), "_CONDOR_MACHINE_AD": str(tmp_path / ".machine.ad")}


@pytest.mark.parametrize(
    ("job_ad", "machine_ad", "settings"),
    [
        ('ClusterId = 1\nVMImage = "debian:12"\n', "", Settings()),
        ('vmnetwork= "nat"\n', "", Settings()),
        ("ClusterId = 1\n", 'DayflyQueue = "secure"\n', SECURE),
        ("ClusterId = 1\n", "", Settings(batch_vm="always")),
    ],
)
def test_the_wrapper_of_htcondor(dayfly: str, tmp_path: Path, job_ad: str, machine_ad: str, settings: Settings) -> None:
    wrapper = program(tmp_path / "wrapper", htcondor.files(settings, dayfly, "/etc/my site.toml", "")["wrapper"])
    environment = slot(tmp_path, job_ad, machine_ad)
    seen = called([str(wrapper), "/x/condor_exec.exe", "a b", "", "--"], environment)
    assert seen.argv == [
        *("job-shell", "htcondor", "environment=3", "settings=/etc/my site.toml", "--"),
        *("/x/condor_exec.exe", "a b", "", "--"),
    ]
    check_handed_over(seen, environment)


@pytest.mark.parametrize(
    ("job_ad", "machine_ad"), [("VMImages = 1\n", ""), ("A = 1\n", 'DayflyQueue = "open"\n'), ("A = VMImage = 1\n", "")]
)
def test_other_jobs_of_htcondor_are_left_alone(dayfly: str, tmp_path: Path, job_ad: str, machine_ad: str) -> None:
    wrapper = program(tmp_path / "wrapper", htcondor.files(SECURE, dayfly, "", "")["wrapper"])
    done = execute(
        [str(wrapper), "/bin/sh", "-c", 'cat; echo "$1 $HOME"; exit 7', "-", "a  b"], slot(tmp_path, job_ad, machine_ad)
    )
    assert (done.returncode, done.stdout) == (7, "echo script\na  b /home/ann\n")


def test_without_classads_the_wrapper_runs_the_job(dayfly: str, tmp_path: Path) -> None:
    wrapper = program(tmp_path / "wrapper", htcondor.files(Settings(), dayfly, "", "")["wrapper"])
    done = execute([str(wrapper), "/bin/echo", "hi"], {})
    assert (done.stdout, done.stderr) == ("hi\n", "")


@pytest.mark.parametrize(
    ("wish", "settings"),
    [
        ({"DAYFLY_IMAGE": "debian:12"}, Settings()),
        ({"DAYFLY_BOOT": "system", "DAYFLY_SHARE": "/my data"}, Settings()),
        ({"PBS_QUEUE": "secure"}, SECURE),
        ({}, Settings(batch_vm="always")),
    ],
)
def test_the_starter_of_torque(dayfly: str, tmp_path: Path, wish: dict[str, str], settings: Settings) -> None:
    starter = program(tmp_path / "starter", torque.files(settings, dayfly, "/s", "")["starter"])
    environment = JOB | wish
    seen = called([str(starter), "/bin/bash"], environment)
    asked = [f"{name.lower()}={wish.get(f'DAYFLY_{name}', '')}" for name in ("IMAGE", "BOOT", "NETWORK", "SHARE")]
    assert seen.argv == ["job-shell", "torque", "environment=3", "settings=/s", *asked, "--", "/bin/bash"]
    check_handed_over(seen, environment)


def test_other_jobs_of_torque_are_left_alone(dayfly: str, tmp_path: Path) -> None:
    starter = program(tmp_path / "starter", torque.files(SECURE, dayfly, "", "")["starter"])
    done = execute([str(starter), "/bin/sh"], JOB | {"PBS_QUEUE": "open"}, "echo $HOME; exit 7")
    assert (done.returncode, done.stdout) == (7, "/home/ann\n")


@pytest.fixture
def submit_filter(tmp_path: Path) -> str:
    """qsub's filter with the real dayfly."""
    settings = tmp_path / "settings.toml"
    settings.write_text('[batch]\nimages = ["debian:*"]\n[batch.queues.plain]\nvm = "never"\n')
    real = program(tmp_path / "bin/dayfly", f'#!/bin/sh\nexec {sys.executable} -m dayfly "$@"\n')
    return str(program(tmp_path / "filter", torque.files(Settings(), str(real), str(settings), "")["qsub_filter"]))


def test_the_submit_filter_of_torque(submit_filter: str) -> None:
    environment = {**os.environ, "DAYFLY_SETTINGS": ""}
    done = execute([submit_filter, "-N", "x", "job.sh"], environment, "#PBS -l vm_image=debian:12\necho 'ä' \\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "#PBS -v DAYFLY_IMAGE=debian:12\necho 'ä' \\n"
    for script, arguments, why in (
        ("#PBS -l vm_image=alma:9\n", [], "alma:9 is not allowed here"),
        ("#PBS -l vm_image=debian:12\n", ["-q", "plain"], "plain has no virtual machines"),
        ("echo\n", ["-l", "vm_image=debian:12"], "-v DAYFLY_IMAGE="),
        ("#PBS -l vm_boot=often,vm_image=debian:12\n", [], "often"),
    ):
        done = execute([submit_filter, *arguments], environment, script)
        assert (done.returncode, done.stdout) == (255, ""), script
        assert done.stderr.startswith("dayfly: ")
        assert why in done.stderr


def test_where_dayfly_is_not_there_scripts_go_on_as_they_are(tmp_path: Path) -> None:
    text = torque.files(Settings(), str(tmp_path / "none"), "", "")["qsub_filter"]
    done = execute([str(program(tmp_path / "filter", text)), "-l", "vm_image=a:1"], JOB, "#PBS -N x\n")
    assert (done.returncode, done.stdout) == (0, "#PBS -N x\n")


ON_STDIN = (
    "import os, sys; from dayfly.batch.jobshell.script import on_stdin; "
    "command = on_stdin(sys.argv[1:]); os.execvp(command[0], command)"
)


@pytest.mark.parametrize(
    "how",
    ["name on stdin", "name with brackets", "private sandbox", "name as argument", "script on stdin", "script through a pipe"],
)
def test_scripts_of_pbs_however_they_come(tmp_path: Path, how: str) -> None:
    name = "7[1].head" if how == "name with brackets" else "7.head"
    script = tmp_path / f"mom_priv/jobs/{name}.SC"
    script.parent.mkdir(parents=True)
    script.write_text("echo script; pwd; read line; echo $line\necho last line\n")
    told = str(script).replace("[", "\\[").replace("]", "\\]") + "\n"
    pipe = {
        "name on stdin": told,
        "name with brackets": told,
        "private sandbox": f"cd {tmp_path};{told}",
        "script through a pipe": script.read_text(),
    }
    command = [sys.executable, "-c", ON_STDIN, "/bin/bash", *([str(script)] if how == "name as argument" else [])]
    if how in pipe:
        done = execute(command, dict(os.environ), pipe[how])
    else:
        with script.open() as file:
            done = subprocess.run(command, stdin=file, capture_output=True, text=True, check=False, timeout=30)
    where = tmp_path if how == "private sandbox" else Path.cwd()
    # What is stdin on the host is stdin in a machine: where that is the script, its commands read it.
    read = "echo last line\n" if how in ("script on stdin", "script through a pipe") else "\nlast line\n"
    assert (done.stdout, done.stderr) == (f"script\n{where}\n{read}", "")


@pytest.mark.parametrize(
    ("shell", "script"),
    [
        (["/bin/sh", "-l"], "cat; echo $0\n"),
        (["/bin/bash", "-l"], "cat; echo $0\n"),
        ([sys.executable], "import sys; sys.stdin.read()\nprint(sys.argv[0])\n"),
        (["tcsh", "-l"], ""),
    ],
)
def test_the_shells_of_scripts_that_are_named(tmp_path: Path, shell: list[str], script: str) -> None:
    path = tmp_path / "mom_priv/jobs/7.head.SC"
    path.parent.mkdir(parents=True)
    path.write_text(script)
    program(tmp_path / "bin/tcsh", '#!/bin/sh\necho "$@"\n')  # which takes -l alone
    environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    done = execute([sys.executable, "-c", ON_STDIN, *shell], environment, f"{path}\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "/dev/fd/9\n", "")


def test_a_sandbox_that_is_not_there(tmp_path: Path) -> None:
    told = f"cd {tmp_path}/none;{tmp_path}/mom_priv/jobs/7.head.SC\n"
    done = execute([sys.executable, "-c", ON_STDIN, "/bin/bash"], dict(os.environ), told)
    assert done.returncode == 1
    assert f"the job's folder cannot be entered: {tmp_path}/none: No such file or directory" in done.stderr


def test_the_name_of_a_script_is_enough_where_the_pipe_stays_open(tmp_path: Path) -> None:
    script = tmp_path / "mom_priv/jobs/7.head.SC"
    script.parent.mkdir(parents=True)
    script.write_text("echo script\n")
    command = [sys.executable, "-c", ON_STDIN, "/bin/bash", "-l"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{script}\n")
        process.stdin.flush()
        assert process.stdout.readline() == "script\n"


QMGR = """\
#!/bin/sh
# A stand-in: it knows what it was told to create, and writes down all else.
cd {folder} || exit 1
case $2 in
list*) set -- $2; test -e "$2-$3" ;;
create*) set -- $2; touch "$2-$3"; echo "create $2 $3" >>told ;;
import*) set -- $2; echo "import $3" >>told; cp "$6" imported ;;
*) echo "$2" >>told ;;
esac
"""


def test_what_is_applied_by_qmgr(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    program(tmp_path / "bin/qmgr", QMGR.format(folder=state))
    environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    command = [sys.executable, "-m", "dayfly", "batch", "setup", "pbs", "--apply", "--program", "/opt/dayfly"]
    first = execute(command, environment)
    assert (first.returncode, first.stderr) == (0, "")
    told = (state / "told").read_text().splitlines()
    assert told[:5] == [f"create resource vm_{wish}" for wish in ("image", "boot", "network", "share")] + ["create hook dayfly"]
    assert told[-1] == "set hook dayfly enabled = true"
    assert (state / "imported").read_text() == pbs.hook(Settings(), "/opt/dayfly", "")
    (state / "told").unlink()
    assert execute(command, environment).returncode == 0
    assert not any(line.startswith("create") for line in (state / "told").read_text().splitlines())


def test_qmgr_is_found_where_pbs_is(tmp_path: Path) -> None:
    (tmp_path / "pbs").mkdir()
    program(tmp_path / "pbs/bin/qmgr", f'#!/bin/sh\necho "$2" >>{tmp_path}/told\n')
    (tmp_path / "pbs.conf").write_text(f"PBS_SERVER=head\nPBS_EXEC={tmp_path}/pbs\n")
    environment = {**os.environ, "PATH": "/usr/bin:/bin", "PBS_CONF_FILE": str(tmp_path / "pbs.conf")}
    command = [sys.executable, "-m", "dayfly", "batch", "setup", "pbs", "--apply", "--program", "/opt/dayfly"]
    assert execute(command, environment).returncode == 0
    assert "set hook dayfly enabled = true" in (tmp_path / "told").read_text()
    missing = execute(command, {**environment, "PBS_CONF_FILE": str(tmp_path / "none")})
    assert (missing.returncode, "qmgr is not installed" in missing.stderr) == (125, True)


def test_the_prologue_of_torque_makes_the_users_folder(tmp_path: Path) -> None:
    settings = Settings(records_folder=tmp_path / "{user}/records")
    prologue = program(tmp_path / "prologue", torque.files(settings, "/d", "", "")["prologue"])
    user = pwd.getpwuid(os.getuid()).pw_name
    for name in (user, user, "../x", ""):
        done = execute([str(prologue), "1.head", name, "group"], dict(os.environ))
        assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / user).stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["prologue", user])
