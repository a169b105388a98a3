"""The helper for external programs, with real ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dayfly import process
from dayfly.errors import ProgramFailed, ProgramMissing
from tests.framework.site import eventually


def test_output_and_status() -> None:
    assert process.run(["sh", "-c", "echo out; echo err >&2"]).output == b"out\n"
    assert process.run(["sh", "-c", "exit 3"], check=False).status == 3


def test_a_failure_says_its_last_lines() -> None:
    with pytest.raises(ProgramFailed) as caught:
        process.run(["sh", "-c", "for i in $(seq 30); do echo line $i >&2; done; exit 4"])
    assert caught.value.status == 4
    assert caught.value.tail.splitlines() == [f"line {number}" for number in range(11, 31)]
    assert "  | line 30" in str(caught.value)


def test_death_by_a_signal() -> None:
    with pytest.raises(ProgramFailed, match="died of signal 9"):
        process.run(["sh", "-c", "kill -9 $$"])


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(ProgramMissing, match="install the package helpful"):
        process.find("no-such-program", "helpful")


def test_a_file_that_cannot_be_executed(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF nonsense")
    program.chmod(0o755)
    with pytest.raises(ProgramFailed, match="Exec format error"):
        process.run([str(program)])


def test_progress_line_by_line() -> None:
    lines: list[str] = []
    process.run(["sh", "-c", "printf 'one\\rtwo\\nthree' >&2; head -c 100000 /dev/zero | tr '\\0' x >&2"], progress=lines.append)
    assert lines[:2] == ["one", "two"]
    assert lines[2].endswith("x")
    assert len(lines[2]) <= 4096


def test_whoever_inherits_the_pipe_is_not_waited_for_and_ends_too() -> None:
    begun = time.monotonic()
    finished = process.run(["sh", "-c", "sleep 600 & echo $!"])
    assert time.monotonic() - begun < 10
    eventually(lambda: not Path(f"/proc/{int(finished.output)}").exists() or zombie(int(finished.output)))


def zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_detached_child_outlives_us_and_has_nothing_of_ours(tmp_path: Path) -> None:
    """Of a parent that ignores signals, has a descriptor open for its children, and is killed."""
    script = f"""
import os, signal
from dayfly import process
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
os.set_inheritable(os.open("/etc/passwd", os.O_RDONLY), True)
kept = os.open({str(tmp_path / "said")!r}, os.O_WRONLY | os.O_CREAT)
words = f"(grep -e ^SigBlk -e ^SigIgn /proc/self/status; ls -l /proc/$$/fd; echo end) >&{{kept}}; exec sleep 600"
child = process.spawn(["bash", "-c", words], keep=[kept], lifetime=process.Lifetime.DETACHED)
print(child.pid, flush=True)
child.wait()
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        eventually(lambda: (tmp_path / "said").read_text().endswith("end\n"))
        parent.kill()
        parent.wait()
        said = (tmp_path / "said").read_text()
        masks = [int(line.split()[1], 16) for line in said.splitlines() if line.startswith("Sig")]
        assert [mask & ~(0b11 << 31) for mask in masks] == [0, 0]  # but for 32 and 33, which the C library keeps for itself
        assert "/etc/passwd" not in said
        assert os.getsid(child) == os.getpgid(child) == child
        assert not zombie(child)
    finally:
        parent.stdout.close()
        os.kill(child, signal.SIGKILL)


def test_children_die_with_us() -> None:
    """Of a parent that is killed with SIGKILL, and so can do nothing about it."""
    script = "from dayfly import process; c = process.spawn(['sleep', '600']); print(c.pid, flush=True); c.wait()"
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    eventually(lambda: not Path(f"/proc/{child}").exists() or zombie(child))


def test_a_shielded_child_ignores_the_terminals_signals() -> None:
    child = process.spawn(["sleep", "600"], shielded=True)
    for number in (*process.TERMINAL_SIGNALS, signal.SIGUSR1, signal.SIGUSR2):
        child.kill(number)
    time.sleep(0.2)
    assert Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"
    assert os.getpgid(child.pid) == os.getpgid(0)
    child.kill()
    assert child.wait()[0] == -signal.SIGKILL


def test_only_what_is_kept_is_inherited() -> None:
    kept, other = os.memfd_create("kept", os.MFD_CLOEXEC), os.memfd_create("other", os.MFD_CLOEXEC)
    finished = process.run(["sh", "-c", f"ls /proc/self/fd/{kept} && ls /proc/self/fd/{other}"], keep=[kept], check=False)
    assert finished.status != 0
    assert finished.output.decode().split() == [f"/proc/self/fd/{kept}"]
    os.close(kept)
    os.close(other)
