"""Every byte, in both directions, however slow or rude the other side is."""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.framework.site import IMAGE, Site

MIB = 1 << 20


def test_256_mib_come_back_as_they_went(site: Site) -> None:
    """Random bytes through `cat` in the job, compared by digest on both sides, and never all in memory."""
    sent, got = hashlib.sha256(), hashlib.sha256()
    with site.start("run", IMAGE, "--", "cat") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin = process.stdin

        def feed() -> None:
            for _ in range(256):
                chunk = os.urandom(MIB)
                sent.update(chunk)
                stdin.write(chunk)
            stdin.close()

        feeder = threading.Thread(target=feed)
        feeder.start()
        while chunk := process.stdout.read(MIB):
            got.update(chunk)
        feeder.join()
        assert process.wait(30) == 0
    assert got.digest() == sent.digest()


def test_a_writer_that_exits_at_once_loses_nothing(site: Site) -> None:
    script = "head -c 5000000 /dev/urandom > data; cat data & cat data >&2 & wait"
    finished = site.shell(script)
    data = (site.work / "data").read_bytes()
    assert len(data) == 5_000_000
    assert finished.out == data
    assert site.record()["used"]["bytes_out"] == 2 * len(data)


def test_the_last_write_and_the_exit(site: Site) -> None:
    """`_exit` right after a write that fills the pipe: what was written is the job's output."""
    script = "import os; os.write(1, b'x' * 60000); os.write(2, b'y' * 60000); os._exit(3)"
    finished = site.run("python3", "-c", script)
    assert (finished.status, len(finished.out), finished.err) == (3, 60000, "y" * 60000)


def test_both_streams_keep_apart(site: Site) -> None:
    finished = site.shell("for i in 1 2 3; do echo out $i; echo err $i >&2; done")
    assert finished.out == b"out 1\nout 2\nout 3\n"
    assert finished.err == "err 1\nerr 2\nerr 3\n"


def test_one_file_for_both_keeps_their_order(site: Site) -> None:
    """A batch system's `2>&1`: the order in which the job wrote."""
    finished = site.shell("for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; done", stderr=subprocess.STDOUT)
    assert finished.out.decode().split("\n")[:-1] == [f"{name} {i}" for i in range(1, 6) for name in ("out", "err")]


def test_a_stalled_reader_stalls_the_job_and_loses_nothing(site: Site) -> None:
    with site.start("run", IMAGE, "--", "sh", "-c", "head -c 20000000 /dev/zero; echo end >&2") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.read(10)
        time.sleep(4)
        assert process.poll() is None
        os.set_blocking(process.stderr.fileno(), False)
        assert process.stderr.read() is None  # the job has not come to its end
        os.set_blocking(process.stderr.fileno(), True)
        rest = process.stdout.read()
        assert len(first) + len(rest) == 20_000_000
        assert process.stderr.read() == b"end\n"
        assert process.wait(30) == 0


def test_a_stalled_stdout_does_not_stall_stderr(site: Site) -> None:
    with site.start("run", IMAGE, "--", "sh", "-c", "cat /dev/zero & sleep 1; echo err >&2; sleep 600") as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"err\n"
        process.terminate()
        assert process.stdout is not None
        while process.stdout.read(MIB):
            pass
        assert process.wait(30) == 143


def test_a_closed_reader_ends_the_job_as_sigpipe(site: Site) -> None:
    with site.start("run", IMAGE, "--", "cat", "/dev/zero") as process:
        assert process.stdout is not None
        process.stdout.read(1000)
        process.stdout.close()
        assert process.wait(30) == 141


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize(
    "script",
    ["cat /dev/zero", "echo small", "echo small; exit 3", "sleep 1; printf x", "exec 3>&1; (sleep 1; echo late >&3) & wait"],
)
def test_output_on_a_full_disk_is_not_lost_in_silence(site: Site, stream: str, script: str) -> None:
    """However little it is, and whatever the job exits with."""
    with Path("/dev/full").open("wb") as full:
        script = script if stream == "stdout" else f"{{ {script}; }} >&2"
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: full}
        finished = site.shell(script, **streams)
    assert finished.status == 125
    if stream == "stdout":
        assert "stdout cannot be written: No space left" in finished.err
    assert site.record()["end"]["reason"] == "output-lost"


@pytest.mark.parametrize(("ignored", "status"), [("", 141), ("trap '' PIPE; ", 125)])
def test_small_output_to_a_reader_that_has_gone(site: Site, ignored: str, status: int) -> None:
    """Natively SIGPIPE ends the job, or where the caller ignores it, the job hears of an error."""
    reader, writer = os.pipe()
    os.close(reader)
    launcher = Path(sys.executable).parent / "dayfly"
    site.command = ["sh", "-c", f'{ignored}exec "$@"', "sh", str(launcher)]
    finished = site.shell("echo small", stdout=writer)
    os.close(writer)
    assert finished.status == status, finished.err


def test_a_limit_of_the_files_size_behind_stdout(site: Site) -> None:
    """A quota, or `ulimit -f`, that is reached in the middle."""
    with (site.work / "out").open("wb") as out:
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # noqa: E731
        finished = site.run("head", "-c", "200000", "/dev/zero", stdout=out, preexec_fn=limit, options=("--scratch", "64M"))
    assert finished.status == 125, finished.err


LOOPS = {
    "not-read": ("echo $line", "one\ntwo\nthree\nfour\n"),
    "a-line-each": ("read x; echo $line and $x", "one and two\nthree and four\n"),
    "all": ("cat >/dev/null; echo $line", "one\n"),
    "fails-to-start": ("", "failed\nfailed\nfailed\nfailed\n"),
}


@pytest.mark.parametrize("loop", LOOPS)
def test_what_a_job_leaves_of_a_file_is_its_callers(site: Site, loop: str) -> None:
    """`while read` around jobs goes on with the next line that no job has read."""
    job, output = LOOPS[loop]
    command = f"sh -c 'line=$1; {job}' sh $line" if job else "no-such-command || echo failed"
    script = f'while read line; do "$@" {command}; done <list'
    (site.work / "list").write_text("one\ntwo\nthree\nfour\n")
    finished = site.dayfly("run", IMAGE, "--", before=["sh", "-c", script, "sh"])
    assert (finished.status, finished.out.decode()) == (0, output), finished.err


def test_a_script_on_stdin_goes_on_after_a_job(site: Site) -> None:
    """bash reads its script by the line where it can, so that what it calls may read on."""
    dayfly = " ".join([*site.command, "run", IMAGE, "--"])
    (site.work / "script").write_text(f"echo one\n{dayfly} echo two\n{dayfly} sh -c 'read x; echo $x'\nthree\necho four\n")
    with (site.work / "script").open("rb") as script:
        finished = subprocess.run(["bash"], stdin=script, capture_output=True, cwd=site.work, env=site.environment())
    assert finished.stdout == b"one\ntwo\nthree\nfour\n", finished.stderr


@pytest.mark.parametrize("option", ["-n", "--stdin=none"])
def test_no_stdin_for_the_job(site: Site, option: str) -> None:
    """As ssh's -n: what is in the pipe is the next one's."""
    script = f'while read line; do "$@" run {option} {IMAGE} -- sh -c "cat; echo job $line"; done'
    finished = subprocess.run(
        ["sh", "-c", script, "sh", *site.command], input=b"1\n2\n", capture_output=True, cwd=site.work, env=site.environment()
    )
    assert finished.stdout == b"job 1\njob 2\n", finished.stderr


def test_the_end_of_stdin(site: Site) -> None:
    assert site.run("wc", "-c", stdin=b"").out == b"0\n"
    assert site.run("wc", "-c", stdin=b"12345").out == b"5\n"


def test_no_stdin_at_all(site: Site) -> None:
    with site.start("run", IMAGE, "--", "wc", "-c", stdin=subprocess.DEVNULL) as process:
        out, _ = process.communicate(timeout=60)
    assert out == b"0\n"


def test_a_job_that_does_not_read_its_stdin(site: Site) -> None:
    with site.start("run", IMAGE, "--", "sh", "-c", "exec <&-; echo done") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(bytes(4 * MIB))
            process.stdin.close()
        except BrokenPipeError:
            pass
        assert process.stdout.read() == b"done\n"
        assert process.wait(30) == 0


def test_interactive_use_of_pipes(site: Site) -> None:
    """Each line comes back before the next is sent."""
    with site.start("run", IMAGE, "--", "sh", "-c", "while read line; do echo got $line; done", bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(20):
            process.stdin.write(b"%d\n" % number)
            assert process.stdout.readline() == b"got %d\n" % number
        process.stdin.close()
        assert process.wait(30) == 0


@pytest.mark.parametrize("size", [1, 65535, 65536, 65537, 262144, 262145, 1048577])
def test_sizes_around_the_limits(site: Site, size: int) -> None:
    content = os.urandom(size)
    assert site.run("cat", stdin=content).out == content


def test_without_standard_streams(site: Site) -> None:
    """Started with none of the three: no file of Dayfly's takes their place."""
    finished = site.shell("cat; echo lost; exit 6", before=["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"])
    assert (finished.status, finished.out, finished.err) == (6, b"", "")
    assert site.record()["used"]["bytes_in"] == 0


def test_ended_while_only_the_output_waits(site: Site) -> None:
    """The job is done, its reader stalls for good, and somebody ends us."""
    with site.start("run", IMAGE, "--", "sh", "-c", "head -c 300000 /dev/zero; echo done >&2") as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"done\n"
        time.sleep(2)
        assert process.poll() is None
        process.terminate()
        assert process.wait(20) == 143  # natively it would still write
        assert process.stdout is not None
        process.stdout.close()
    assert site.record()["end"]["reason"] == "cancelled"
