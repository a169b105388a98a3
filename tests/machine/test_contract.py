"""The job's contract, point by point, in real machines."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import jsonschema
import pytest

from dayfly.job.usage import SCHEMA_FILE
from tests.framework.site import IMAGE, Site, eventually


@pytest.fixture(params=["clone", "cold"])
def site(request: pytest.FixtureRequest, site: Site) -> Site:
    """The contract is the same for a machine that was cloned and for one that booted."""
    site.run_options = ("--cold",) if request.param == "cold" else ()
    return site


def on_both(values: Sequence[int], cold: Sequence[int]) -> pytest.MarkDecorator:
    """Each value in a clone, and these in a machine that boots, which takes ten times as long; in a soak all of them."""
    cloned = [pytest.param("clone", value) for value in values]
    marks = {value: () if value in cold else (pytest.mark.soak,) for value in values}
    booted = [pytest.param("cold", value, marks=marks[value]) for value in values]
    return pytest.mark.parametrize(("site", "number"), [*cloned, *booted], indirect=["site"])


def test_output_and_status(site: Site) -> None:
    finished = site.shell("echo out; echo err >&2; exit 7", stdin=b"")
    assert (finished.status, finished.out, finished.err) == (7, b"out\n", "err\n")


@on_both([0, 1, 2, 100, 124, 125, 126, 127, 128, 200, 255], cold=[0, 255])
def test_exit_codes(site: Site, number: int) -> None:
    assert site.shell(f"exit {number}").status == number


@pytest.mark.soak
@pytest.mark.parametrize("code", range(256))
def test_every_exit_code(site: Site, code: int) -> None:
    assert site.shell(f"exit {code}").status == code


@on_both([signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGPIPE], cold=[signal.SIGKILL])
def test_death_by_a_signal(site: Site, number: signal.Signals) -> None:
    assert site.shell(f"kill -{int(number)} $$").status == 128 + number
    assert site.record()["end"] == {"status": 128 + number, "reason": "signal", "message": ""}


@pytest.mark.parametrize(
    ("command", "status", "text"),
    [
        (("no-such-command",), 127, "no-such-command"),
        (("/etc/passwd",), 126, "/etc/passwd"),
        (("/etc",), 126, "/etc"),
        (("./gone",), 127, "./gone"),
    ],
)
def test_commands_that_cannot_start(site: Site, command: tuple[str, ...], status: int, text: str) -> None:
    finished = site.run(*command)
    assert finished.status == status
    assert finished.err.startswith("dayfly: ")
    assert text in finished.err
    assert finished.err.count("\n") == 1


def test_a_script_without_a_first_line(site: Site) -> None:
    script = site.work / "script"
    script.write_text("echo ran as $0 with $1\n")
    script.chmod(0o755)
    assert site.run("./script", "this").out == b"ran as ./script with this\n"


def test_arguments_are_bytes(site: Site) -> None:
    odd = ["", "a b", "*", "$HOME", "--", "\n", "ü", os.fsdecode(b"\xff\xfe"), "'\""]
    finished = site.run("printf", r"%s\0", *odd)
    assert finished.out == b"\0".join(map(os.fsencode, odd)) + b"\0"


def test_environment(site: Site) -> None:
    variables = {"ODD": "a b\n'\"$x=ü", "EMPTY": "", "HUGE": "x" * 100_000, "RAW": os.fsdecode(b"\xff")}
    finished = site.run("env", "-0", options=("--env", "SET=by hand"), extra=variables)
    seen = dict(line.partition(b"=")[::2] for line in finished.out.split(b"\0") if line)
    for name, value in variables.items():
        assert seen[name.encode()] == os.fsencode(value)
    assert seen[b"SET"] == b"by hand"
    assert b"DAYFLY_SETTINGS" in seen  # the caller's environment, all of it


def test_directory_umask_and_limits(site: Site) -> None:
    deep = site.work / "a b" / "ü"
    deep.mkdir(parents=True)

    def limits() -> None:
        os.umask(0o027)
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, 600))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (10 << 20, resource.RLIM_INFINITY))

    finished = site.shell("pwd; umask; ulimit -Sn; ulimit -Hn; ulimit -c; ulimit -f; touch made", cwd=deep, preexec_fn=limits)
    assert finished.out.decode().split("\n") == [str(deep), "0027", "512", "600", "0", "20480", ""]
    assert (deep / "made").stat().st_mode & 0o777 == 0o640


def test_who_the_job_is(site: Site) -> None:
    finished = site.shell("id -u; id -g; id -G; id -un")
    uid, gid, groups, name = finished.out.decode().splitlines()
    own = subprocess.run(["id", "-un"], capture_output=True, check=True, text=True).stdout.strip()
    assert (int(uid), int(gid), name) == (os.getuid(), os.getgid(), own)
    assert set(groups.split()) == {str(group) for group in {os.getgid(), *os.getgroups()}}


needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")


@needs_root
def test_an_ordinary_user_and_root_inside(site: Site) -> None:
    site.give_to(4242)
    finished = site.shell("id -u; id -g; touch mine; ls -ln mine | cut -d' ' -f3,4; touch /usr/no 2>/dev/null || echo readonly")
    assert finished.out.decode().split("\n") == ["4242", "4242", "4242 4242", "readonly", ""], finished.err
    inside = site.shell("id -u; touch /usr/yes && echo root; touch roots", "--user", "root")
    assert inside.out == b"0\nroot\n", (inside, site.records())
    assert (site.work / "roots").stat().st_uid == 4242


@needs_root
def test_root_inside_has_no_more_rights_on_shares(site: Site) -> None:
    site.give_to(4242)
    secret = site.work / "secret"
    secret.write_text("the host's root alone")
    secret.chmod(0o600)
    finished = site.shell("cat secret; echo more >> secret; ls", "--user", "root")
    assert b"alone" not in finished.out
    assert "ermission denied" in finished.err
    assert secret.read_text() == "the host's root alone"


def test_host_name_machine_id_and_clock_are_its_own(site: Site) -> None:
    finished = site.shell("hostname; cat /etc/machine-id; date +%s.%N")
    now = time.time()
    name, machine_id, clock = finished.out.decode().split()
    assert name == "dayfly-" + site.record()["id"]
    assert len(machine_id) == 32
    assert abs(float(clock) - now) < 5
    again = site.shell("cat /etc/machine-id; cat /proc/sys/kernel/random/uuid")
    assert machine_id not in again.out.decode()


def test_nothing_of_a_job_survives_it(site: Site) -> None:
    site.shell("touch /tmp/left /var/tmp/left; echo x > /left", "--user", "root")
    assert site.shell("ls /tmp/left /var/tmp/left /left").out == b""


def test_what_a_job_left_running_ends_with_it(site: Site) -> None:
    begun = time.monotonic()
    finished = site.shell("(sleep 600; echo late) & setsid sleep 600 & echo main")
    assert (finished.status, finished.out) == (0, b"main\n")
    assert time.monotonic() - begun < 60


def test_cpus_and_memory_are_what_was_asked(site: Site) -> None:
    cpus = min(2, len(os.sched_getaffinity(0)))
    finished = site.shell("nproc; awk '/MemTotal/ {print $2}' /proc/meminfo", "--cpus", str(cpus), "--memory", "300M")
    seen, total = finished.out.split()
    assert int(seen) == cpus
    assert 200 * 1024 < int(total) < 300 * 1024


@on_both([signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2], cold=[signal.SIGTERM])
def test_signals_reach_the_job(site: Site, number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    with site.start(
        "run", IMAGE, "--", "sh", "-c", f"trap 'echo got {name}; exit 3' {name}; echo ready; while :; do sleep 0.1; done"
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.stdout.read() == f"got {name}\n".encode()
        assert process.wait(30) == 3


def test_a_job_ended_by_term(site: Site) -> None:
    with site.start("run", IMAGE, "--", "sh", "-c", "echo ready; exec sleep 600") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.terminate()
        assert process.wait(30) == 143
    assert site.record()["end"]["reason"] == "cancelled"


@pytest.mark.parametrize(("number", "reason"), [(signal.SIGTERM, "cancelled"), (signal.SIGUSR1, "signal")])
def test_signals_again_and_again(site: Site, number: signal.Signals, reason: str) -> None:
    """Whoever cannot wait does not cut short what is written down at the end."""
    with site.start("run", IMAGE, "--", "sh", "-c", "echo ready; exec sleep 600") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        while process.poll() is None:
            process.send_signal(number)
            time.sleep(0.001)
    assert process.returncode == 128 + number
    assert site.record()["end"]["reason"] == reason


@pytest.mark.parametrize(
    "numbers", [(signal.SIGCONT,), (signal.SIGTSTP, signal.SIGCONT)], ids=["continued", "suspended-and-continued"]
)
def test_ended_just_after_it_was_told_to_go_on(site: Site, rounds: int, numbers: tuple[signal.Signals, ...]) -> None:
    """As batch systems cancel a job. QEMU ends while somebody is about to talk to it."""
    for moment in range(rounds):
        with site.start("run", IMAGE, "--", "sleep", "600") as process:
            site.machine_of(process)
            time.sleep(moment * 0.15 / rounds)
            for number in (*numbers, signal.SIGTERM):
                process.send_signal(number)
            told = process.communicate(timeout=30)[1].decode()
        assert "Traceback" not in told, told
        assert process.returncode == 143, told
        assert site.record()["end"]["reason"] == "cancelled"


def test_term_while_booting(site: Site) -> None:
    with site.start("run", IMAGE, "--", "sleep", "600") as process:
        site.machine_of(process)
        time.sleep(0.3 if site.run_options else 0)  # a clone is not long on its way
        process.terminate()
        assert process.wait(10) == 143
    assert site.record()["end"]["reason"] == "cancelled"


def test_usr1_while_booting_waits_for_the_job(site: Site) -> None:
    with site.start("run", IMAGE, "--", "sh", "-c", "trap 'exit 9' USR1; while :; do sleep 0.1; done") as process:
        site.machine_of(process)
        time.sleep(0.5)
        process.send_signal(signal.SIGUSR1)
        assert process.wait(30) in (9, 128 + signal.SIGUSR1)  # before or after the shell's trap, as natively


def test_tstp_and_cont_pause_the_machine(site: Site) -> None:
    script = "echo ready; i=0; while [ $i -lt 30 ]; do i=$((i+1)); sleep 0.1; done; date +%s.%N"
    with site.start("run", IMAGE, "--", "sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        machine = site.machine_of(process)
        process.send_signal(signal.SIGTSTP)
        eventually(lambda: state(process.pid) == "T")
        cpu = cpu_ticks(machine.pid)
        time.sleep(3)
        assert cpu_ticks(machine.pid) - cpu <= 5
        process.send_signal(signal.SIGCONT)
        clock = float(process.stdout.readline())
        assert abs(clock - time.time()) < 2
        assert process.wait(30) == 0


def test_tstp_twice_and_cont_once(site: Site) -> None:
    with site.start("run", IMAGE, "--", "sh", "-c", "echo ready; sleep 1; echo on") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        for _ in range(2):
            process.send_signal(signal.SIGTSTP)
            time.sleep(0.003)  # so that each is heard, while QEMU still pauses
        eventually(lambda: state(process.pid) == "T")
        process.send_signal(signal.SIGCONT)
        assert process.stdout.read() == b"on\n"
        assert process.wait(30) == 0


def test_a_job_hears_that_it_goes_on(site: Site) -> None:
    """`trap … CONT`, after its machine was suspended, and where nobody suspended it."""
    script = "trap 'echo goes on' CONT; echo ready; while :; do sleep 0.1; done"
    with site.start("run", IMAGE, "--", "sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTSTP)
        eventually(lambda: state(process.pid) == "T")
        process.send_signal(signal.SIGCONT)
        assert process.stdout.readline() == b"goes on\n"
        process.send_signal(signal.SIGCONT)
        assert process.stdout.readline() == b"goes on\n"
        process.terminate()
        assert process.wait(30) == 143


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGTSTP])
def test_what_the_caller_ignores_stays_ignored(site: Site, number: signal.Signals) -> None:
    """`nohup dayfly run …`, `trap '' INT`: from the first moment to the last."""
    ignore = lambda: signal.signal(number, signal.SIG_IGN)  # noqa: E731
    with site.start("run", IMAGE, "--", "sh", "-c", "echo up; sleep 2; kill -HUP $$; echo on", preexec_fn=ignore) as process:
        assert process.stdout is not None
        machine = site.machine_of(process)
        process.send_signal(number)
        assert process.stdout.readline() == b"up\n"
        process.send_signal(number)
        assert process.stdout.read() == (b"on\n" if number == signal.SIGHUP else b"")
        assert process.wait(30) == (0 if number == signal.SIGHUP else 129)
    assert machine.owner == process.pid


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_timeout(site: Site) -> None:
    site.configure(job_grace="1s")
    finished = site.shell("trap '' TERM; echo up; while :; do sleep 1; done", "--timeout", "3s")
    assert (finished.status, finished.out) == (124, b"up\n")
    assert "--timeout" in finished.err
    assert site.record()["end"]["reason"] == "timeout"


def test_the_usage_record(site: Site) -> None:
    finished = site.shell(
        "cat; dd if=/dev/zero of=/dev/null bs=1M count=300 2>/dev/null", "--name", "measured", stdin=b"x" * 1000
    )
    assert finished.out == b"x" * 1000
    record = site.record()
    jsonschema.validate(record, json.loads(SCHEMA_FILE.read_text()))
    assert (record["name"], record["state"], record["end"]["reason"]) == ("measured", "ended", "exit")
    machine = record["machine"]
    cold = "--cold" in site.run_options
    assert (machine["accelerator"], machine["start"]) == ("tcg", "cold" if cold else "template")
    assert (machine["template"] == "", machine["cold_reason"]) == (cold, "requested" if cold else "")
    assert (record["used"]["bytes_in"], record["used"]["bytes_out"]) == (1000, 1000)
    assert record["used"]["cpu_host"] > record["used"]["cpu_user"] + record["used"]["cpu_system"] > 0
    assert record["used"]["peak_memory"] > 0
    up = ["hello", "root", "ready"] if cold else ["restored"]
    assert list(record["phases"]) == ["spawned", *up, "started", "first_byte", "exited", "gone"]
    assert sorted(record["phases"].values()) == list(record["phases"].values())


def test_a_running_job_is_seen(site: Site) -> None:
    with site.start("run", IMAGE, "--", "sh", "-c", "echo up; exec sleep 600") as process:
        assert process.stdout is not None
        process.stdout.readline()
        (record,) = site.records()
        assert record["state"] == "running"
        listed = json.loads(site.dayfly("ps", "--json").out)
        assert record["id"] in [machine["identity"] for machine in listed]
        process.kill()
        process.wait()
    eventually(lambda: site.record()["state"] == "lost")


def test_the_console_is_kept(site: Site) -> None:
    site.shell("echo seen on the console > /dev/console", "--user", "root")
    shown = site.dayfly("usage", "show", site.record()["id"], "--console")
    assert b"seen on the console" in shown.out


def test_no_network_by_default(site: Site) -> None:
    assert site.shell("ls /sys/class/net").out == b"lo\n"


def test_digest_of_what_passes_through(site: Site) -> None:
    content = os.urandom(8 << 20)
    assert hashlib.sha256(site.run("cat", stdin=content).out).digest() == hashlib.sha256(content).digest()
