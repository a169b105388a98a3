"""A job in a machine beside the same job natively, over one list of probes and a list of habits of callers.

What differs on purpose is in a table, with its reason. A difference that is not there fails.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.framework.site import IMAGE, Site

LAUNCHER = Path(sys.executable).parent / "dayfly"
PROBES = Path(__file__).parent.parent / "framework/probes.sh"

DIFFERENT: Mapping[str, str] = {
    "nice": "the machine's processes share QEMU's own niceness, which is the caller's",
    "scheduling": "as with niceness; and the out-of-memory adjustment is QEMU's",
    "devices": "the host may be a container, whose devices are its engine's: the right values are below",
    "folders": "the host's own; the right values are below",
}
"""Sections that are not compared, and why."""

DIFFERENT_FOR: Mapping[tuple[str, str], str] = {
    ("stdin-write-only", "stdin"): "what cannot be read is an empty stdin to the job, which natively gets EBADF",
    ("stdin-folder", "stdin"): "likewise, where it natively gets EISDIR",
}
"""Sections that are not compared for one caller."""

CALLERS: Mapping[str, list[str]] = {
    "plain": [],
    "nohup": ["nohup"],
    "ignoring": ["sh", "-c", "trap '' INT PIPE USR1 XFSZ TSTP; exec \"$@\"", "sh"],
    "blocking": [
        "/usr/bin/python3",
        "-c",
        "import os, signal, sys; signal.pthread_sigmask(0, {10, 15, 40}); os.execvp(sys.argv[1], sys.argv[1:])",
    ],
    "no-locale": ["env", "-u", "LANG", "-u", "LC_ALL", "-u", "LC_CTYPE"],
    "c-locale": ["env", "LC_ALL=C"],
    "odd-variables": ["env", "A-B=1", "1=2", "BASH_FUNC_f%%=() { :; }", "PYTHONUTF8=1", "EMPTY=", "PWD=/nowhere"],
    "pythons-variables": ["env", "PYTHONHOME=/nowhere", "PYTHONPATH=/nowhere", "PYTHONSTARTUP=/nowhere"],
    "no-home": ["env", "-u", "HOME"],
    "umask": ["sh", "-c", 'umask 077; exec "$@"', "sh"],
    "limits": ["sh", "-c", 'ulimit -S -n 300; ulimit -c 0; ulimit -S -f 4000000; ulimit -s 4096; exec "$@"', "sh"],
    "session": ["setsid", "--wait"],
    "stdin-closed": ["sh", "-c", 'exec "$@" <&-', "sh"],
    "stderr-closed": ["sh", "-c", 'exec "$@" 2>&-', "sh"],
    "stdin-file": ["sh", "-c", 'exec "$@" <input', "sh"],
    "stdin-null": ["sh", "-c", 'exec "$@" </dev/null', "sh"],
    "stdin-pipe": ["sh", "-c", 'printf "one\\ntwo" | "$@"', "sh"],
    "stdin-folder": ["sh", "-c", 'exec "$@" </', "sh"],
    "stdin-write-only": ["sh", "-c", 'exec "$@" 0>/dev/null', "sh"],
    "stdin-fifo": ["sh", "-c", 'rm -f f; mkfifo f; echo by a fifo >f & "$@" <f; wait', "sh"],
    "stdin-socket": [
        "/usr/bin/python3",
        "-c",
        "import os, socket, sys; a, b = socket.socketpair(); a.sendall(b'by a socket'); a.shutdown(1); os.dup2(b.fileno(), 0); "
        "os.execvp(sys.argv[1], sys.argv[1:])",
    ],
    "through-a-link": ["sh", "-c", 'mkdir -p real/below; ln -sfn real link; cd link/below; exec "$@"', "sh"],
}
"""What a caller does before it runs the job, by a name."""


def sections(output: bytes) -> dict[str, str]:
    parts = output.decode(errors="surrogateescape").split("\n== ")
    return {name: text for name, _, text in (part.partition("\n") for part in parts[1:])}


@pytest.mark.parametrize("caller", CALLERS)
def test_the_same(site: Site, caller: str) -> None:
    (site.work / "input").write_text("a line\n")
    before = CALLERS[caller]
    (site.work / PROBES.name).write_bytes(PROBES.read_bytes())
    job = ["sh", str(site.work / PROBES.name)]
    environment = {**site.environment(), "PATH": "/usr/local/bin:/usr/bin:/bin"}
    environment.pop("OLDPWD", None)
    native = run([*before, *job], site, environment)
    share = ["--share", str(site.work)]
    machine = run([*before, str(LAUNCHER), "run", IMAGE, *share, "--", *job], site, environment)
    assert native.returncode == machine.returncode == 0, machine.stderr
    there, here = sections(machine.stdout), sections(native.stdout)
    assert there.keys() == here.keys()
    compared = [name for name in here if name not in DIFFERENT and (caller, name) not in DIFFERENT_FOR]
    assert {name: there[name] for name in compared} == {name: here[name] for name in compared}


def run(command: list[str], site: Site, environment: Mapping[str, str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, cwd=site.work, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=100)


def test_what_differs_is_there(site: Site) -> None:
    """No name in the table of differences that no probe has."""
    found = sections(run(["sh", str(PROBES)], site, dict(os.environ)).stdout)
    assert DIFFERENT.keys() <= found.keys()


def in_machine(site: Site) -> dict[str, str]:
    (site.work / PROBES.name).write_bytes(PROBES.read_bytes())
    finished = run([str(LAUNCHER), "run", IMAGE, "--", "sh", PROBES.name], site, site.environment())
    return sections(finished.stdout)


def test_devices_and_folders_as_debian_has_them(site: Site) -> None:
    found = in_machine(site)
    modes = {words[0].removeprefix("/dev/"): words[-2:] for words in map(str.split, found["devices"].splitlines())}
    assert modes["null"] == ["666", "1:3"]
    assert modes["zero"] == ["666", "1:5"]
    assert modes["full"] == ["666", "1:7"]
    assert modes["random"] == ["666", "1:8"]
    assert modes["urandom"] == ["666", "1:9"]
    assert modes["tty"] == ["666", "5:0"]
    assert modes["ptmx"] == ["666", "5:2"]
    assert modes["fuse"] == ["666", "a:e5"]
    assert modes["net/tun"] == ["666", "a:c8"]
    assert modes["loop-control"] == ["660", "a:ed"]
    assert {name for name, (mode, _) in modes.items() if mode == "777"} == {"fd", "stdin", "stdout", "stderr"}
    folders = {words[0]: " ".join(words[1:]) for words in map(str.split, found["folders"].splitlines())}
    assert folders == {
        **dict.fromkeys(("/", "/run", "/home"), "755 root root"),
        **dict.fromkeys(("/tmp", "/var/tmp", "/dev/shm", "/run/lock"), "1777 root root"),
        **dict.fromkeys(("/proc", "/sys"), "555 root root"),
        "/root": "700 root root",
    }


def test_modules_are_loaded_when_their_devices_are_opened(site: Site) -> None:
    """A loop mount, a tunnel and a FUSE filesystem: of the kernel's modules, which nobody has loaded."""
    script = """
        python3 -c 'import os; os.close(os.open("/dev/fuse", os.O_RDWR)); os.close(os.open("/dev/net/tun", os.O_RDWR))'
        head -c 4M /dev/zero >disk; /usr/sbin/mkfs.ext4 -q disk; mkdir mnt; mount -o loop disk mnt && findmnt -no FSTYPE mnt
    """
    options = ["-u", "root", "--no-share", "-w", "/root"]
    finished = run([str(LAUNCHER), "run", IMAGE, *options, "--", "sh", "-ec", script], site, site.environment())
    assert (finished.returncode, finished.stdout) == (0, b"ext4\n"), finished.stderr
    script = "exec 3<>/dev/fuse && exec 4<>/dev/net/tun"
    by_user = run([str(LAUNCHER), "run", IMAGE, "--", "sh", "-c", script], site, site.environment())
    assert by_user.returncode == 0, by_user.stderr


OUTPUTS: Mapping[str, str] = {
    "file": '"$@" >out 2>err',
    "appended": 'echo before >out; "$@" >>out 2>>err',
    "one-file": '"$@" >out 2>&1',
    "null": '"$@" >/dev/null 2>err',
    "pipe": '"$@" 2>err | cat >out',
    "fifo": 'mkfifo f; cat f >out & "$@" >f 2>err; s=$?; wait; exit $s',
    "socket": "/usr/bin/python3 -c '%s' \"$@\" >out 2>err",
    "stdout-closed": '"$@" >&- 2>err',
    "stderr-closed": '"$@" >out 2>&-',
    "both-closed": '"$@" >&- 2>&-',
    "stdout-read-only": '"$@" 1<input 2>err',
}
"""How a caller leads the job's output away."""

THROUGH_A_SOCKET = """
import socket, subprocess, sys
ours, theirs = socket.socketpair()
job = subprocess.Popen(sys.argv[1:], stdout=theirs)
theirs.close()
sys.stdout.buffer.write(ours.makefile("rb").read())
sys.exit(job.wait())
"""

OTHERWISE = {"stdout-read-only": (125, "what the job could not write natively (its status is then 1) is lost output here")}
"""The status in a machine where it is another than natively, and why."""


@pytest.mark.parametrize("kind", OUTPUTS)
def test_all_kinds_of_output(site: Site, kind: str) -> None:
    job = ["sh", "-c", "echo out || exit 1; echo err >&2 || exit 2; exit 3"]
    script = OUTPUTS[kind].replace("%s", THROUGH_A_SOCKET)
    found = []
    for name, before in (("native", []), ("machine", [str(LAUNCHER), "run", IMAGE, "--no-share", "--"])):
        folder = site.work / name
        folder.mkdir()
        (folder / "input").write_text("")
        command = ["sh", "-c", script, "sh", *before, *job]
        done = subprocess.run(command, cwd=folder, env=site.environment(), stdin=subprocess.DEVNULL, timeout=100)
        written = {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}
        found.append((done.returncode, written))
    (native, there), (machine, here) = found
    if kind in OTHERWISE:
        assert machine == OTHERWISE[kind][0] != native
        return
    assert machine == native
    assert {name: text for name, text in here.items() if name != "err"} == {
        name: text for name, text in there.items() if name != "err"
    }
    assert ("err\n" in here.get("err", "")) == ("err\n" in there.get("err", ""))
