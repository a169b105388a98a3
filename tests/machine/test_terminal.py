"""A terminal on the host is a terminal in the guest."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.framework.site import COMMAND, IMAGE, Site


class Screen:
    """The master side of a terminal that `dayfly` sits at."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self.master = master
        self.seen = b""

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def expect(self, pattern: bytes, seconds: float = 60) -> re.Match[bytes]:
        end = time.monotonic() + seconds
        while (match := re.search(pattern, self.seen)) is None:
            readable, _, _ = select.select([self.master], [], [], end - time.monotonic())
            assert readable, f"{pattern!r} did not come: {self.seen!r}"
            try:
                self.seen += os.read(self.master, 4096)
            except OSError as error:  # EIO: the last process has closed the terminal
                raise AssertionError(f"{pattern!r} did not come: {self.seen!r}") from error
        self.seen = self.seen[match.end() :]
        return match

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


@contextmanager
def screen(site: Site, *words: str) -> Iterator[Screen]:
    with started(site, [*COMMAND, "run", *words]) as at:
        yield at


@contextmanager
def started(site: Site, command: list[str]) -> Iterator[Screen]:
    """A command that leads the session of a terminal of its own."""
    master, slave = pty.openpty()
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))
    process = subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=site.work,
        env=site.environment({"TERM": "xterm"}),
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(slave)
    try:
        yield Screen(process, master)
    finally:
        process.kill()
        process.wait()
        os.close(master)


def test_a_shell_at_a_terminal(site: Site) -> None:
    with screen(site, "-t", IMAGE, "--", "sh") as at:
        at.expect(rb"[#$] ")
        at.type(b"tty; stty size\r")
        at.expect(rb"/dev/pts/\d+\r\n33 101\r\n")
        at.type(b"exit 5\r")
        assert at.process.wait(30) == 5


def test_the_size_follows(site: Site) -> None:
    with screen(site, IMAGE, "--", "sh", "-c", "trap 'stty size' WINCH; echo ready; while :; do sleep 0.1; done") as at:
        at.expect(rb"ready")
        at.resize(50, 120)
        at.expect(rb"50 120")


def test_ctrl_c_is_the_guests(site: Site) -> None:
    with screen(
        site, IMAGE, "--", "sh", "-c", "trap 'echo interrupted; exit 4' INT; echo ready; while :; do sleep 0.1; done"
    ) as at:
        at.expect(rb"ready")
        at.type(b"\x03")
        at.expect(rb"interrupted")
        assert at.process.wait(30) == 4


def test_ctrl_d_ends_the_input(site: Site) -> None:
    with screen(site, IMAGE, "--", "cat") as at:
        at.type(b"a line\r")
        at.expect(rb"a line\r\na line\r\n")
        at.type(b"\x04")
        assert at.process.wait(30) == 0


def test_ctrl_c_while_booting(site: Site) -> None:
    with screen(site, IMAGE, "--", "sleep", "600") as at:
        site.machine_of(at.process)
        time.sleep(0.5)
        at.type(b"\x03")
        assert at.process.wait(30) == 130


def test_the_terminal_is_as_before(site: Site) -> None:
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    process = subprocess.Popen(
        [*COMMAND, "run", IMAGE, "--", "true"], stdin=slave, stdout=slave, stderr=slave, cwd=site.work, env=site.environment()
    )
    assert process.wait(60) == 0
    assert termios.tcgetattr(slave) == before
    os.close(slave)
    os.close(master)


def test_a_terminal_that_hangs_up(site: Site) -> None:
    with screen(site, IMAGE, "--", "sh", "-c", "echo ready; sleep 600") as at:
        at.expect(rb"ready")
        at.process.send_signal(signal.SIGHUP)
        assert at.process.wait(30) == 129


def test_t_without_a_terminal_is_refused(site: Site) -> None:
    finished = site.run("true", options=("-t",))
    assert finished.status == 125
    assert "needs a terminal" in finished.err


def test_full_screen_program(site: Site) -> None:
    """less draws a screen of the right height, and gives the terminal back."""
    (site.work / "text").write_text("".join(f"line {number}\n" for number in range(200)))
    with screen(site, IMAGE, "--", "less", "text") as at:
        at.expect(rb"line 31\r?\n")
        at.type(b"G")
        at.expect(rb"line 199")
        at.type(b"q")
        assert at.process.wait(30) == 0


DAYFLY = " ".join(COMMAND)


def test_timeout_in_a_script_at_a_terminal(site: Site) -> None:
    """timeout(1) puts what it runs into the terminal's background. The job runs there, and its TERM is obeyed."""
    script = f"timeout 8 {DAYFLY} run {IMAGE} -- sh -c 'echo runs; sleep 600'; echo status $?; stty -a | grep -c ' icanon'"
    with started(site, ["sh", "-c", script]) as at:
        at.expect(rb"runs\r+\n")
        at.expect(rb"status 124\r\n", 30)
        at.expect(rb"1\r\n")  # and the terminal is as it was
        assert at.process.wait(10) == 0


def test_timeout_of_a_job_that_reads_the_terminal(site: Site) -> None:
    """Natively it would be stopped by TTIN, and ended by TERM and CONT; here it waits for input that is not its own."""
    with started(site, ["sh", "-c", f"timeout 8 {DAYFLY} run {IMAGE} -- cat; echo status $?"]) as at:
        at.type(b"not for the job\r")
        assert b"not for the job\r\nnot for" not in at.expect(rb"[^$]*status 124\r\n", 30).group()


def test_a_job_in_the_background_of_a_shell(site: Site) -> None:
    """It runs there, and gets the terminal when it is brought to the foreground."""
    script = "echo runs; read line; echo got $line"
    with started(site, ["bash", "--norc", "-i"]) as at:
        at.type(f"stty -echo; PS1=prompt:; {DAYFLY} run {IMAGE} -- sh -c '{script}' &\r".encode())
        at.expect(rb"runs\r+\n")
        at.type(b"jobs -r | wc -l\r")
        at.expect(rb"1\r\n")
        at.type(b"fg\r")
        at.expect(rb"run ")
        time.sleep(0.5)  # until the shell has handed the terminal over: nothing tells when
        at.type(b"a line\r")
        at.expect(rb"got a line\r+\n")
        at.expect(rb"prompt:")  # what is typed before the shell has the terminal again is the job's
        at.type(b"exit\r")
        at.process.wait(30)


def test_a_suspended_job_leaves_the_terminal_as_it_was(site: Site) -> None:
    with screen(site, IMAGE, "--", "sh", "-c", "echo runs; read line; echo got $line") as at:
        at.expect(rb"runs\r\n")
        raw = termios.tcgetattr(at.master)[3] & termios.ICANON
        at.process.send_signal(signal.SIGTSTP)
        os.waitid(os.P_PID, at.process.pid, os.WSTOPPED | os.WNOWAIT)
        assert (raw, termios.tcgetattr(at.master)[3] & termios.ICANON) == (0, termios.ICANON)
        at.process.send_signal(signal.SIGCONT)
        at.type(b"on\r")
        at.expect(rb"got on\r\n")
        assert at.process.wait(30) == 0
