"""What can go wrong, made to go wrong: one clear message, the right status, nothing left, nothing lost."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dayfly.guest.initramfs import agent_archive, modules_archive
from dayfly.image.library import Library
from dayfly.image.reference import parse
from dayfly.machine.processes import running
from tests.framework.hostile import boot_modules, compiled, hostile_image
from tests.framework.site import IMAGE, Finished, Site, eventually, kill, moments
from tests.framework.templates import folder_of, lend_template

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")


def one_line(finished: Finished) -> str:
    """The message: one line that begins `dayfly:`, and below it nothing but quoted lines of programs and consoles."""
    lines = finished.err.splitlines()
    assert lines, "no message"
    assert lines[0].startswith("dayfly: ")
    assert all(line.startswith("  | ") for line in lines[1:]), finished.err
    assert "Traceback" not in finished.err
    return lines[0]


def works(site: Site) -> None:
    """The next run is none the worse."""
    finished = site.run("echo", "fine")
    assert (finished.status, finished.out, finished.err) == (0, b"fine\n", "")


# Killed


@pytest.mark.parametrize("victim", ["dayfly", "qemu", "both"])
@pytest.mark.timeout(900)
def test_killed_at_any_moment(site: Site, victim: str, rounds: int) -> None:
    """kill -9, many times, from the first instruction to the machine's end: nothing is left, and the next run works."""
    for moment in moments(rounds, 1.5):  # a clone is there after 0.2 s, and the job takes one
        with site.start("run", IMAGE, "--", "sh", "-c", "echo x > made; sleep 1") as process:
            time.sleep(moment)
            machines = [machine.pid for machine in running() if machine.owner == process.pid]
            if victim in ("qemu", "both"):
                for pid in machines:
                    kill(pid)
            if victim in ("dayfly", "both"):
                process.kill()
            _, err = process.communicate(timeout=60)
        if victim == "qemu" and machines and process.returncode != 0:
            assert process.returncode == 125, err
            assert b"killed by signal 9" in err
        for pid in machines:
            eventually(lambda pid=pid: not is_machine(pid))
        assert site.leftovers() == []
    works(site)


def is_machine(pid: int) -> bool:
    return any(machine.pid == pid for machine in running())


def test_a_killed_job_says_so(site: Site) -> None:
    with site.start("run", IMAGE, "--", "sh", "-c", "echo up; sleep 600") as process:
        assert process.stdout is not None
        process.stdout.readline()
        kill(site.machine_of(process).pid)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 125
    assert err.decode().splitlines() == [
        "dayfly: QEMU was killed by signal 9 (by a user, or by the host because it was out of memory)"
    ]
    assert site.record()["end"]["reason"] == "machine-killed"


# What is missing or broken on the host


def test_no_qemu(site: Site) -> None:
    site.configure(machine_qemu="qemu-none")
    finished = site.run("true")
    assert finished.status == 125
    assert one_line(finished) == "dayfly: qemu-none is not installed (install the package qemu-system-x86)"


def test_a_qemu_that_fails(site: Site) -> None:
    broken = site.work / "qemu-broken"
    broken.write_text("#!/bin/sh\necho it does not start >&2\nexit 3\n")
    broken.chmod(0o755)
    site.configure(machine_qemu=str(broken))
    finished = site.run("true")
    assert finished.status == 125
    assert "QEMU exited with 3" in one_line(finished)
    assert "  | it does not start" in finished.err
    assert site.record()["end"]["reason"] == "qemu-failed"


def test_a_qemu_that_crashes(site: Site) -> None:
    """Its last lines are told, and are in the record."""
    broken = site.work / "qemu-broken"
    broken.write_text("#!/bin/sh\necho 'assertion failed: somewhere' >&2\nkill -ABRT $$\n")
    broken.chmod(0o755)
    site.configure(machine_qemu=str(broken))
    finished = site.run("true")
    assert finished.status == 125
    assert "QEMU crashed with signal 6" in one_line(finished)
    assert "  | assertion failed: somewhere" in finished.err
    end = site.record()["end"]
    assert end["reason"] == "qemu-failed"
    assert "assertion failed: somewhere" in end["message"]


@pytest.mark.parametrize("options", [(), ("--cold",)], ids=["clone", "cold"])
def test_a_qemu_that_stops_the_machine(site: Site, options: tuple[str, ...]) -> None:
    """As after an internal error of KVM: nobody asked for it, and nothing would ever come of it."""
    socket_path = site.work / "qmp"
    wrapper = site.work / "qemu-watched"
    qemu = shutil.which(os.environ.get("DAYFLY_TEST_QEMU", "qemu-system-x86_64"))
    wrapper.write_text(f'#!/bin/sh\nexec {qemu} "$@" -qmp unix:{socket_path},server=on,wait=off\n')
    wrapper.chmod(0o755)
    site.configure(machine_qemu=str(wrapper), templates_user=str(site.folder / "cache/templates"))
    site.run("true")  # or the machine that is made a template would be met
    with site.start("run", IMAGE, *options, "--", "sh", "-c", "echo up; sleep 600") as process:
        assert process.stdout is not None
        process.stdout.readline()
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(socket_path))
            monitor.sendall(b'{"execute": "qmp_capabilities"}\n{"execute": "stop"}\n')
            _, err = process.communicate(timeout=30)
    assert process.returncode == 125
    assert b"QEMU stopped it: paused" in err
    assert site.record()["end"]["reason"] == "machine-halted"


HALTS = {
    "halted": "python3 -c 'import ctypes; ctypes.CDLL(None).reboot(0xcdef0123)'",
    "suspended": "echo mem >/sys/power/state",
}


@pytest.mark.parametrize("how", HALTS)
def test_a_machine_that_stands_still_ends_its_job(site: Site, how: str) -> None:
    finished = site.shell(f"{HALTS[how]}; sleep 600", "--user", "root", seconds=60)
    assert finished.status == 125
    assert "stopped before the job ended" in one_line(finished)
    assert site.record()["end"]["reason"] == "machine-halted"


def test_a_second_term_ends_the_machine(site: Site) -> None:
    """Whatever the job makes of it. One that comes with the first is the same request: timeout(1) sends two."""
    site.configure(job_grace="2s")
    script = "trap 'echo term' TERM; echo up; while :; do sleep 0.1; done"
    with site.start("run", IMAGE, "--", "sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.terminate()
        process.terminate()
        assert process.stdout.readline() == b"term\n"
        time.sleep(4)
        assert process.poll() is None
        process.terminate()
        _, err = process.communicate(timeout=20)
    assert process.returncode == 143
    assert b"a second TERM" in err
    assert site.record()["end"]["reason"] == "cancelled"


LIMITS = {
    "v": (resource.RLIMIT_AS, 500_000 * 1024, "500000 KiB"),
    "d": (resource.RLIMIT_DATA, 100_000 * 1024, "100000 KiB"),
    "t": (resource.RLIMIT_CPU, 2, "2 s"),
    "n": (resource.RLIMIT_NOFILE, 12, "12"),
    "f": (resource.RLIMIT_FSIZE, 4096, "4 KiB"),
}


@pytest.mark.parametrize("option", LIMITS)
def test_a_limit_of_the_callers_is_named(site: Site, option: str) -> None:
    number, value, shown = LIMITS[option]
    limit = lambda: resource.setrlimit(number, (value, value))  # noqa: E731
    finished = site.shell("while :; do :; done", "--cold", preexec_fn=limit)
    assert finished.status == 125
    assert f"ulimit -{option}" in finished.err
    assert shown in finished.err
    assert "Traceback" not in finished.err


@pytest.mark.parametrize("option", ["v", "t"])
def test_a_limit_of_the_callers_costs_no_template(site: Site, own_templates: Path, option: str) -> None:
    """It keeps a clone from starting, and the template is none the worse."""
    made = lend_template(site, own_templates).stat().st_ino
    assert site.run("true").status == 0
    number, value, _ = LIMITS[option]
    value = 100_000 * 1024 if option == "v" else 2
    limit = lambda: resource.setrlimit(number, (value, value))  # noqa: E731
    finished = site.shell("while :; do :; done", preexec_fn=limit)
    assert (finished.status, f"ulimit -{option}" in finished.err) == (125, True), finished.err
    assert site.run("true").status == 0
    assert site.record()["machine"]["start"] == "template"
    assert folder_of(own_templates).stat().st_ino == made


def test_one_template_by_whichever_path(site: Site, own_templates: Path) -> None:
    """`/bin` is a link to `/usr/bin`: the QEMU that a PATH leads to is the same."""
    for path in ("/usr/bin:/bin", "/bin:/usr/bin"):
        assert site.run("true", extra={"PATH": path}).status == 0
    assert site.record()["machine"]["start"] == "template"
    assert len(list(own_templates.glob("*/memory"))) == 1


@needs_root
def test_a_limit_of_processes_is_named(site: Site) -> None:
    site.give_to(4243)
    limit = lambda: resource.setrlimit(resource.RLIMIT_NPROC, (2, 2))  # noqa: E731
    finished = site.shell("true", "--cold", preexec_fn=limit)
    assert finished.status == 125
    assert "ulimit -u" in finished.err
    assert "Traceback" not in finished.err


def test_memory_that_the_host_does_not_have(site: Site) -> None:
    finished = site.shell("true", "--memory", "900G")
    assert finished.status == 125
    assert "900 GiB of memory requested" in one_line(finished)


def test_memory_that_the_host_does_not_give(site: Site) -> None:
    """An address-space limit below the machine's memory: QEMU says so, and we pass it on."""
    finished = site.shell("true", "--memory", "1G", before=["prlimit", f"--as={900 << 20}"])
    assert finished.status == 125
    assert "QEMU" in one_line(finished)
    assert "cannot set up guest memory" in finished.err or "Cannot allocate memory" in finished.err


def test_an_unknown_image(site: Site) -> None:
    finished = site.dayfly("run", "no-such:image", "--", "true")
    assert finished.status == 125
    assert "there is no image no-such:image" in one_line(finished)


def test_a_working_directory_that_is_gone(site: Site) -> None:
    gone = site.work / "gone"
    gone.mkdir()
    finished = site.run("true", cwd=gone, before=["sh", "-c", 'rmdir "$PWD"; exec "$@"', "sh"])
    assert finished.status == 125
    assert "does not exist any more" in one_line(finished)


def test_records_that_cannot_be_written(site: Site) -> None:
    (site.folder / "records").write_text("a file where the folder should be")
    finished = site.shell("echo out; exit 3")
    assert (finished.status, finished.out) == (3, b"out\n")
    assert "usage record" in finished.err
    (site.folder / "records").unlink()


def test_a_error_in_the_settings(site: Site) -> None:
    site.configure(machine_memory="lots", scratch_where="/tmp")
    finished = site.run("true")
    assert finished.status == 125
    assert finished.err.splitlines()[0].endswith("2 errors")
    site.configure()


def in_small_disk(size: str, *command: str) -> list[str]:
    """A command that sees a tmpfs of this size at $SMALL, in namespaces that end with it."""
    script = f'mount -t tmpfs -o size={size},mode=0755 small "$SMALL" && exec "$@"'
    return ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh", *command]


def test_the_hosts_disk_fills_while_the_job_writes(site: Site) -> None:
    site.configure(scratch_folder=str(site.work / "small"))
    (site.work / "small").mkdir()
    finished = site.shell(
        "head -c 80000000 /dev/urandom > /var/tmp/big; sync; echo survived",
        before=in_small_disk("40M"),
        extra={"SMALL": str(site.work / "small")},
    )
    assert finished.status == 125
    assert "scratch folder is full" in one_line(finished)
    assert b"survived" not in finished.out
    assert site.record()["end"]["reason"] == "scratch-full"
    site.configure()
    works(site)


def test_no_room_for_the_cache(site: Site) -> None:
    (site.work / "small").mkdir()
    site.configure(cache_folder=str(site.work / "small"))
    finished = site.run("echo", "out", before=in_small_disk("64k"), extra={"SMALL": str(site.work / "small")})
    assert (finished.status, finished.out) == (0, b"out\n"), finished.err
    site.configure()


def test_a_scratch_folder_without_room(site: Site) -> None:
    (site.work / "small").mkdir()
    site.configure(scratch_folder=str(site.work / "small"))
    finished = site.run("true", before=in_small_disk("16k"), extra={"SMALL": str(site.work / "small")})
    assert finished.status == 125
    assert "no space left" in one_line(finished)
    site.configure()


# A guest that misbehaves


def test_out_of_memory(site: Site) -> None:
    script = "all = []\nwhile True: all.append(b'x' * (1 << 20))"
    finished = site.run("python3", "-c", script, options=("--memory", "256M"))
    assert finished.status == 137
    assert "the job ran out of memory" in finished.err
    assert site.record()["end"]["reason"] == "out-of-memory"


def test_a_panic(site: Site) -> None:
    finished = site.shell("echo before; echo c > /proc/sysrq-trigger", "--user", "root")
    assert (finished.status, finished.out) == (125, b"before\n")
    assert one_line(finished) == "dayfly: the guest's kernel panicked"
    assert "  | " in finished.err
    assert site.record()["end"]["reason"] == "guest-panic"


@pytest.mark.parametrize("how", ["echo o > /proc/sysrq-trigger; sleep 60", "echo b > /proc/sysrq-trigger; sleep 60"])
def test_switched_off_from_inside(site: Site, how: str) -> None:
    finished = site.shell(f"echo before; {how}", "--user", "root")
    assert (finished.status, finished.out) == (125, b"before\n")
    assert "powered off from inside" in one_line(finished)


def test_forking_without_end(site: Site) -> None:
    site.configure(job_grace="1s")
    finished = site.shell("bomb() { bomb | bomb & }; bomb; sleep 600", "--timeout", "6s")
    assert finished.status == 124
    works(site)


def test_a_full_disk_in_the_guest_is_the_jobs(site: Site) -> None:
    finished = site.shell("head -c 200000000 /dev/zero > /var/tmp/big; echo $?", "--scratch", "64M")
    assert finished.out == b"1\n"
    assert "No space left on device" in finished.err


def test_scratch_is_as_large_as_asked(site: Site) -> None:
    finished = site.shell("df -m / | tail -1 | awk '{print $2}'", "--scratch", "3G")
    assert 2700 < int(finished.out) <= 3072


# Images that do not boot, or that are hostile


def test_a_kernel_that_is_none(site: Site) -> None:
    hostile_image(site, "bad", b"", kernel=b"no kernel at all")
    finished = site.dayfly("run", "bad", "--", "true")
    assert finished.status == 125
    assert "QEMU" in one_line(finished) or "kernel" in one_line(finished)


def test_a_kernel_without_the_modules_it_needs(site: Site) -> None:
    hostile_image(site, "bad", modules_archive([]))
    finished = site.dayfly("run", "bad", "--", "true")
    assert finished.status == 125
    assert "the kernel" in one_line(finished)
    assert "  | " in finished.err


def test_a_root_that_is_none(site: Site) -> None:
    hostile_image(site, "bad", boot_modules(site), root=bytes(1 << 20))
    finished = site.dayfly("run", "bad", "--", "true")
    assert finished.status == 125
    assert "the root filesystem did not come up" in one_line(finished)
    assert site.record()["end"]["reason"] == "root-failed"


def test_an_image_without_an_init_in_system_mode(site: Site) -> None:
    hostile_image(site, "bad", boot_modules(site))
    finished = site.dayfly("run", "bad", "--boot", "system", "--", "true")
    assert finished.status == 125
    assert "the agent" in one_line(finished)
    assert "init" in one_line(finished)


def test_a_guest_that_hangs_at_boot(site: Site) -> None:
    hostile_image(site, "bad", boot_modules(site) + agent_archive(compiled(site.work, "for (;;) pause();")))
    site.configure(library_user=str(site.folder / "work/library"), machine_boot_timeout="5s")
    finished = site.dayfly("run", "bad", "--", "true")
    assert finished.status == 125
    assert "did not come up within 5 s" in one_line(finished)


HOSTILE = {
    "unknown type": "frame(0x77, 0, 0, 0);",
    "oversized": "frame(0x05, 1, 0, 0x7fffffff);",
    "reserved": "frame(0x06, 1, 7, 0);",
    "data before the job": 'hello(3); frame(0x05, 1, 0, 1); put("x", 1);',
    "another version": "hello(9);",
    "garbage": "for (;;) put(memset(room, 0xaa, sizeof room), sizeof room);",
    "ready without hello": 'frame(0x02, 0, 0, 1); put("\\2", 1);',
    "endless data": "hello(3); stage(1); stage(2); wait_start(); started(); memset(room, 65, sizeof room); "
    "for (;;) { frame(0x05, 1, 0, sizeof room); put(room, sizeof room); }",
    "an impossible end": "hello(3); stage(1); stage(2); wait_start(); started(); frame(0x09, 0, 0, 48); "
    "memset(room, 0xff, 48); put(room, 48);",
    "started twice": "hello(3); stage(1); stage(2); wait_start(); started(); started();",
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_guest_that_breaks_the_protocol(site: Site, attack: str) -> None:
    """A real guest with an /init of the attacker's, which the image's own boot modules bring in the agent's place."""
    hostile_image(site, "hostile", boot_modules(site) + agent_archive(compiled(site.work, HOSTILE[attack])))
    finished = site.dayfly("run", "hostile", "--", "true", seconds=120)
    assert finished.status == 125
    assert "guest" in one_line(finished) or "agent" in one_line(finished)
    assert finished.seconds < 50, "refused at once, not by the boot timeout"


def test_a_console_without_end_is_kept_short(site: Site) -> None:
    finished = site.shell("timeout 8 cat /dev/zero | tr '\\0' 'x' > /dev/console; true", "--user", "root", "--timeout", "40s")
    assert finished.status in (0, 124)
    console = next((site.folder / "records").rglob("*.console"))
    assert console.stat().st_size < 1100 * 1024


# Blobs that are not what they should be


@pytest.mark.parametrize("role", ["root", "kernel", "boot-modules"])
@pytest.mark.parametrize("damage", ["flipped", "truncated"])
def test_damaged_blobs_are_refused_by_name(site: Site, own_library: Library, role: str, damage: str) -> None:
    works(site)
    _, manifest, _ = own_library.inspect(parse("debian:12"))
    path = next(own_library.layout.blob(layer.digest) for layer in manifest.layers if layer.role == role)
    path.chmod(0o644)
    with path.open("r+b") as file:
        if damage == "flipped":
            file.seek(path.stat().st_size // 2)
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 1]))
        else:
            file.truncate(path.stat().st_size - 1)
    finished = site.run("true")
    assert finished.status == 125
    assert path.name in one_line(finished)
    verified = site.dayfly("image", "verify")
    assert verified.status == 1
    assert path.name in verified.out.decode()


# Shared folders


def test_what_a_shared_folder_holds(site: Site) -> None:
    """Links that lead out, names with newlines, devices: they are what they are to the user, and nothing more."""
    (site.folder / "outside").mkdir()
    (site.folder / "outside/secret").write_text("not shared")
    (site.work / "link").symlink_to(site.folder / "outside/secret")
    (site.work / "up").symlink_to("../outside")
    (site.work / "new\nline").write_text("odd name")
    (site.work / "etc").symlink_to("/etc")
    os.mkfifo(site.work / "pipe")
    script = "cat link up/secret; cat 'new\nline'; echo; ls -d etc/dpkg; ls -la | wc -l; ls /; ls .."
    finished = site.shell(script)
    assert b"not shared" not in finished.out
    assert b"odd name" in finished.out
    assert b"etc/dpkg" in finished.out
    shutil.rmtree(site.folder / "outside")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make device nodes")
def test_device_nodes_in_a_shared_folder_are_the_guests(site: Site) -> None:
    """A node for a disk of the host opens the guest's device of that number, or none: never the host's."""
    node = site.work / "disk"
    os.mknod(node, 0o666 | 0o060000, os.makedev(254, 0))
    finished = site.shell("for from in disk /dev/vda; do echo $from: $(head -c 1100 $from 2>/dev/null | sha256sum); done")
    shared, own = (line.split()[1] for line in finished.out.decode().splitlines())
    assert shared in (own, hashlib.sha256(b"").hexdigest())


def test_a_readonly_share(site: Site) -> None:
    data = site.folder / "work/data"
    data.mkdir()
    (data / "in").write_text("content")
    finished = site.shell(f"cat {data}/in; touch {data}/out || echo refused", "--share", f"{data}:ro", "--user", "root")
    assert finished.out == b"contentrefused\n"
    assert not (data / "out").exists()


def test_a_second_share_and_none(site: Site) -> None:
    other = site.folder / "work/other folder, with a comma"
    other.mkdir()
    assert site.shell(f"echo made > '{other}/file'", "--share", str(other), "--no-share").status == 0
    assert (other / "file").read_text() == "made\n"
    (site.work / "here").touch()
    assert site.shell("pwd; ls", "--no-share").out == f"{Path('~').expanduser()}\n".encode()


def test_files_of_a_job_are_there_when_it_has_ended(site: Site) -> None:
    script = "import mmap; f = open('m', 'w+b'); f.truncate(1 << 20); m = mmap.mmap(f.fileno(), 1 << 20); m[:] = b'z' * (1 << 20)"
    finished = site.run("python3", "-c", script)
    assert finished.status == 0, finished.err
    assert (site.work / "m").read_bytes() == b"z" * (1 << 20)


# Networks


def test_nat_reaches_out(site: Site) -> None:
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(site.work)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert server.stdout is not None
        port = server.stdout.readline().decode().split(" port ")[1].split()[0]
        (site.work / "page").write_text("from the host")
        finished = site.run("curl", "-s", f"http://10.0.2.2:{port}/page", options=("--network", "nat"), before=site.networked)
        assert finished.out == b"from the host", finished.err
    finally:
        server.kill()
        server.communicate()


def test_sigstop_of_the_group_stops_the_machine(site: Site) -> None:
    """What a batch system without hooks does: SIGSTOP to the process group."""
    with site.start("run", IMAGE, "--", "sh", "-c", "echo up; while :; do :; done", process_group=0) as process:
        assert process.stdout is not None
        process.stdout.readline()
        machine = site.machine_of(process)
        os.killpg(process.pid, signal.SIGSTOP)
        time.sleep(0.5)
        ticks = [int(field) for field in Path(f"/proc/{machine.pid}/stat").read_text().rpartition(")")[2].split()[11:13]]
        time.sleep(1)
        after = [int(field) for field in Path(f"/proc/{machine.pid}/stat").read_text().rpartition(")")[2].split()[11:13]]
        assert ticks == after
        os.killpg(process.pid, signal.SIGCONT)
        process.terminate()
        assert process.wait(30) == 143


# Without a home directory


@needs_root
@pytest.mark.parametrize("home", [["--unset=HOME"], ["HOME="], ["HOME=relative"]], ids=["unset", "empty", "relative"])
def test_a_user_without_a_home_directory(site: Site, home: list[str]) -> None:
    """No HOME that could be used, and no entry in the passwd database: nothing is made, and the message says what to set."""
    site.give_to(4244)
    site.command = [word for word in site.command if not word.startswith("HOME=")]
    after = site.command.index("env") + 1
    site.command[after:after] = home
    finished = site.run("true", extra={"DAYFLY_SETTINGS": "/dev/null"})
    assert finished.status == 125
    assert one_line(finished).startswith("dayfly: there is no place for your files")
    assert "set HOME" in finished.err
    assert sorted(path.name for path in site.work.iterdir()) == ["library"]


@needs_root
def test_settings_that_say_all_do_without_a_home_directory(site: Site) -> None:
    site.give_to(4244)
    site.command = [word for word in site.command if not word.startswith("HOME=")]
    site.command.insert(site.command.index("env") + 1, "--unset=HOME")
    finished = site.shell("echo fine; pwd")
    assert (finished.status, finished.out.decode().splitlines()) == (0, ["fine", str(site.work)]), finished.err
