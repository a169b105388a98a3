"""The agent and the guest protocol's own rules (docs/reference/guest-protocol.md), seen from a bare host.

What a job sees of it, end to end, is in the other modules beside this one.
"""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dayfly.guest import initramfs
from tests.framework.bare_guest import (
    DATA,
    END,
    FAILED,
    GRANT,
    H_AGAIN,
    H_CLOCK,
    H_CLOSED,
    H_DATA,
    H_DONE,
    H_END,
    H_GRANT,
    H_SIGNAL,
    H_WINDOW,
    HELLO,
    INPUT_LIMIT,
    NETWORK,
    OUTPUT_WINDOW,
    PATH,
    READY,
    ROOT,
    SECONDS,
    STAGE,
    START,
    STDIN_WINDOW,
    Guest,
    Outcome,
    Parts,
    disk,
    nine_p,
    parts_of,
    share,
    spawn,
)

Boot = Callable[..., Guest]


@pytest.fixture
def boot(library: Path, tmp_path: Path) -> Iterator[Boot]:
    """Starts machines of debian:12; they end with the test."""
    with ExitStack() as stack:

        def machine(*devices: str, parts: Parts | None = None, **options: str | bytes | int | Path) -> Guest:
            guest = spawn(parts or parts_of(library, "debian:12"), tmp_path, *devices, **options)  # type: ignore[arg-type]
            stack.callback(guest.end)
            return guest

        yield machine


@pytest.fixture(scope="session")
def saved(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine of debian:12 that is ready for a job."""
    folder = tmp_path_factory.mktemp("saved")
    guest = spawn(parts_of(library, "debian:12"), folder)
    try:
        guest.ready().save(folder / "machine")
    finally:
        guest.end()
    return folder / "machine"


@pytest.fixture
def guest(boot: Boot, saved: Path) -> Guest:
    """A machine without devices of a test's own that is ready for a job."""
    return boot(saved=saved)


def test_stages_then_true(boot: Boot) -> None:
    guest = boot()
    hello = guest.expect(HELLO).payload
    assert hello[:8] == b"DFLY\x03\x00\x00\x00"
    version, kernel = hello[8:].decode().split("\0")
    assert version
    assert kernel[0].isdigit()
    assert guest.expect(STAGE).payload == bytes([ROOT])
    assert guest.expect(STAGE).payload == bytes([READY])
    outcome = guest.run(["true"])
    assert outcome.status == ("code", 0)
    assert outcome.stdout == outcome.stderr == b""
    assert outcome.exit is not None
    assert outcome.exit.peak > 0
    assert outcome.exit.user_us + outcome.exit.system_us > 0
    assert "dayfly-agent: " in guest.log()


def test_a_stalled_stdout_stalls_nothing_else(guest: Guest) -> None:
    script = "trap 'echo usr1 >&2' USR1; head -c 9000000 /dev/zero & echo go >&2; while ! wait; do :; done"
    guest.start(["sh", "-c", script])
    held = bytearray()
    errors = b""
    while errors != b"go\n" or len(held) < OUTPUT_WINDOW:
        frame = guest.expect(DATA)
        if frame.stream == 1:
            held += frame.payload  # never granted
        else:
            errors += frame.payload
    assert len(held) == OUTPUT_WINDOW
    guest.send(H_SIGNAL, bytes([signal.SIGUSR1]))
    frame = guest.expect(DATA)
    assert (frame.stream, frame.payload) == (2, b"usr1\n")
    guest.send(H_CLOSED, stream=1)
    outcome = guest.follow()
    assert outcome.exit is not None


def test_main_process_ends_while_the_reader_stalls(guest: Guest) -> None:
    guest.start(["head", "-c", "2097152", "/dev/zero"])  # one window on the way, one more in the pipe
    held = 0
    while held < OUTPUT_WINDOW:
        held += len(guest.expect(DATA).payload)
    time.sleep(1)
    guest.send(H_GRANT, struct.pack("<I", held), 1)
    outcome = guest.follow()
    assert len(outcome.stdout) + held == 2097152
    assert outcome.status == ("code", 0)


def test_output_in_pieces_of_all_sizes(guest: Guest) -> None:
    """What fills its pages passes without being copied; half-full pages, and writes that fail halfway, must not stop it."""
    script = r"""
        $| = 1; my $piece = pack("N*", 0 .. 65535);
        for my $size (65536, 4096, 1000, 4095, 65536) {
            for (1 .. 1500000 / $size) {
                syscall(1, 1, 1, 9000);  # write(2) from an address that is none
                syswrite(STDOUT, $piece, $size);
            }
        }
        syswrite(STDOUT, $piece) for 1 .. 12;
    """
    piece = struct.pack(">65536I", *range(65536))
    expected = b"".join(piece[:size] * int(1500000 / size) for size in (65536, 4096, 1000, 4095, 65536)) + piece * 12
    outcome = guest.run(["perl", "-e", script])
    assert hashlib.sha256(outcome.stdout).digest() == hashlib.sha256(expected).digest()
    assert outcome.exit is not None
    assert outcome.exit.bytes_out == len(expected)


def test_identity_surroundings_and_limits(boot: Boot) -> None:
    script = (
        "id -u; id -g; id -G; id -un; umask; pwd; echo $GREETING; env | sort | tr '\\n' ' '; echo; "
        "ulimit -Sn; ulimit -Hn; ulimit -c; echo ~; hostname; cat /etc/machine-id; stat -c %U:%a ~; "
        "nice; cat /proc/self/oom_score_adj; date +%Y; echo ok > /dev/stderr; "
        "grep -E 'Sig(Blk|Ign)' /proc/self/status | tr '\\n' ' '; echo; grep pokus /etc/hosts; cat /etc/resolv.conf; "
        "cut -f2,3 /proc/net/route | sed -n 2p; exec 4<>/dev/tcp/127.0.0.1/1"
    )
    extra = (
        (5, b"pat:x:4242:4300:Pat:/home/pat:/bin/sh"),
        (6, b"lab:x:4300:"),
        (6, b"also:x:4301:pat"),
        (7, struct.pack("<I", 0o027)),
        (8, struct.pack("<IIQQ", resource.RLIMIT_NOFILE, 0, 777, 2000000)),
        (8, struct.pack("<IIQQ", resource.RLIMIT_CORE, 0, 0, 2**64 - 1)),
        (12, b"pokus.example.org"),
        (13, os.urandom(64)),
        (14, struct.pack("<Q", 1_900_000_000 * 10**9)),
        (15, b"10.0.2.15/24 10.0.2.2 10.0.2.3"),
        (16, b"0123456789abcdef" * 2),
    )
    env = ("GREETING=hej  hej", "HOME=/home/pat", PATH)
    identity = (4242, 4300, 4300, 4301)
    guest = boot(*NETWORK).ready()
    outcome = guest.run(["bash", "-c", script], env=env, directory="/var/tmp", identity=identity, extra=extra)
    lines = outcome.stdout.decode().splitlines()
    assert lines[:7] == ["4242", "4300", "4300 4301", "pat", "0027", "/var/tmp", "hej hej"]
    assert lines[7].split()[:5] == ["GREETING=hej", "hej", "HOME=/home/pat", PATH, "PWD=/var/tmp"]
    assert lines[8:14] == ["777", "2000000", "0", "/home/pat", "pokus.example.org", "0123456789abcdef" * 2]
    assert lines[14:18] == ["pat:700", "0", "0", "2030"]
    assert lines[18].split() == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16]
    assert lines[19].split() == ["127.0.1.1", "pokus.example.org", "pokus"]
    assert lines[20:] == ["nameserver 10.0.2.3", "00000000\t0202000A"]
    assert outcome.stderr.startswith(b"ok\n")
    assert b"Connection refused" in outcome.stderr  # lo is up


def test_terminal_input_and_its_end(guest: Guest) -> None:
    guest.start(["sh", "-c", "stty -echo; echo go; cat; echo done"], extra=((9, struct.pack("<4H", 24, 80, 0, 0)),))
    outcome = guest.follow(lambda outcome: outcome.stdout == b"go\r\n")
    guest.send(H_DATA, b"one\ntwo")
    guest.send(H_END)
    guest.follow(outcome=outcome)
    assert outcome.stdout == b"go\r\none\r\ntwodone\r\n"


def test_merged(guest: Guest) -> None:
    guest.start(["sh", "-c", "read line; echo a; echo b >&2; echo c"], extra=((10, b""),))
    first = guest.expect(END)
    assert first.stream == 2  # at once, before the job has done anything
    guest.send(H_DATA, b"\n")
    outcome = guest.follow(outcome=Outcome(ended=[2]))
    assert (outcome.stdout, outcome.stderr) == (b"a\nb\nc\n", b"")


def test_shares(boot: Boot, tmp_path: Path) -> None:
    work, data, inner = (tmp_path / name for name in ("work", "data", "inner"))
    for folder in (work, data, inner):
        folder.mkdir()
    (data / "input").write_text("given\n")
    (inner / "deep").write_text("nested\n")
    guest = boot(*nine_p("work", work, 0), *nine_p("data", data, 1, read_only=True), *nine_p("inner", inner, 2)).ready()
    script = (
        "cat /data/input deep/er/deep; touch /data/no; mkdir sub && echo made > sub/file && mv sub/file result; "
        "dd if=/dev/zero of=big bs=1M count=3 status=none"
    )
    extra = (
        share("work", "/home/pat/my work"),
        share("data", "/data", read_only=True),
        share("inner", "/home/pat/my work/deep/er"),
    )
    outcome = guest.run(["sh", "-c", script], directory="/home/pat/my work", extra=extra)
    assert outcome.stdout == b"given\nnested\n"
    assert b"Read-only file system" in outcome.stderr
    assert (work / "result").read_text() == "made\n"
    assert (work / "big").stat().st_size == 3 << 20


@pytest.mark.parametrize(
    ("argv", "fields", "kind", "text"),
    [
        (["no-such-command"], {}, 1, "no-such-command: command not found"),
        (["/etc"], {}, 2, "/etc: permission denied"),
        (["true"], {"directory": "/root", "identity": (77, 77)}, 3, "/root: permission denied"),
        (["true"], {"extra": (share("none", "/x"),)}, 4, "/x: no such device"),
        (["true"], {"extra": ((8, struct.pack("<IIQQ", 7, 0, 9, 3)),)}, 5, "limit: invalid argument"),
        (["true"], {"extra": ((15, b"10.0.2.15/24 10.0.2.2 10.0.2.3"),)}, 6, "network: no such device"),
        (["true"], {"extra": ((99, b""),)}, 7, "START: unknown field"),
        (["true"], {"identity": (2**32 - 1, 0)}, 7, "START: identity: -1 is no user or group"),
    ],
)
def test_refused_starts(guest: Guest, argv: list[str], fields: dict[str, object], kind: int, text: str) -> None:
    assert guest.refused(argv, **fields) == (kind, text)
    guest.done()


@pytest.mark.parametrize(
    ("bytes_sent", "before_start"),
    [
        (struct.pack("<BBHI", 0x7F, 0, 0, 0), True),
        (struct.pack("<BBHI", H_DONE, 0, 0, 0), True),
        (struct.pack("<BBHI", START, 0, 0, (4 << 20) + 1), True),
        (struct.pack("<BBHI", H_DATA, 1, 0, 1) + b"x", False),
        (struct.pack("<BBHI", H_END, 0, 1, 0), False),
        (struct.pack("<BBHI", H_GRANT, 1, 0, 4) + struct.pack("<I", 1), False),
        (struct.pack("<BBHI", H_SIGNAL, 0, 0, 1) + b"\x20", False),
        (struct.pack("<BBHI", START, 0, 0, 0), False),
        (struct.pack("<BBHI", H_END, 0, 0, 0) + struct.pack("<BBHI", H_DATA, 0, 0, 1) + b"x", False),
        (struct.pack("<BBHI", H_END, 0, 0, 0) * 2, False),
    ],
)
def test_a_broken_peer_is_told_and_the_machine_goes_off(guest: Guest, bytes_sent: bytes, *, before_start: bool) -> None:
    if not before_start:
        guest.start(["sleep", "100"])
    guest.port.sendall(bytes_sent)
    stage, kind, text = guest.failure()
    assert (stage, kind) == (4, 0)
    assert text.startswith("the host broke the protocol: ")


def test_a_machine_with_a_broken_peer_goes_off_by_itself(guest: Guest) -> None:
    guest.send(0x7F)
    guest.failure()
    assert guest.process.wait(SECONDS) == 0


def test_a_script_without_its_interpreter(boot: Boot, tmp_path: Path) -> None:
    (tmp_path / "orphan").write_text("#!/no/such/interpreter\n")
    (tmp_path / "orphan").chmod(0o755)
    guest = boot(*nine_p("w", tmp_path, 0)).ready()
    kind, text = guest.refused(["./orphan"], directory="/w", extra=(share("w", "/w"),))
    assert (kind, text) == (1, "./orphan: its interpreter: no such file or directory")


def test_more_stdin_than_granted_is_broken(guest: Guest) -> None:
    guest.start(["sleep", "100"])
    for _ in range(20):  # more than its pipe and our window hold
        guest.send(H_DATA, bytes(65536))
    while (frame := guest.frame()).kind in (GRANT, END):
        pass
    assert frame.kind == FAILED


def test_stdin_closed_by_the_job(guest: Guest) -> None:
    guest.start(["sh", "-c", "read line; exec <&-; echo got $line; sleep 1; exit 4"])
    guest.send(H_DATA, b"first\nrest\n")
    outcome = guest.follow(lambda outcome: outcome.closed)
    guest.send(H_DATA, b"too late\n")
    guest.send(H_END)
    guest.follow(outcome=outcome)
    guest.done()
    assert outcome.stdout == b"got first\n"
    assert outcome.status == ("code", 4)
    assert outcome.exit is not None
    assert outcome.exit.bytes_in == len("first\n")


def test_what_comes_too_late_is_ignored(guest: Guest) -> None:
    guest.start(["true"])
    guest.follow()
    for kind, payload, stream in (
        (H_SIGNAL, bytes([15]), 0),
        (H_WINDOW, bytes(8), 0),
        (H_CLOCK, struct.pack("<Q", 10**18), 0),
        (H_GRANT, struct.pack("<I", 1), 1),
        (H_CLOSED, b"", 2),
        (H_DATA, b"x", 0),
        (H_END, b"", 0),
    ):
        guest.send(kind, payload, stream)
    guest.done()


def test_scratch_and_modules_layers(boot: Boot, tmp_path: Path) -> None:
    scratch, modules, folder = tmp_path / "scratch", tmp_path / "modules", tmp_path / "folder"
    (folder / "usr/lib/modules/test").mkdir(parents=True)
    (folder / "usr/lib/modules/test/marker").write_text("laid over\n")
    subprocess.run(["mkfs.erofs", "-zlz4hc", modules, folder], check=True, capture_output=True)
    with scratch.open("wb") as file:
        file.truncate(512 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=1,nodiscard", scratch], check=True)
    guest = boot(
        *disk("modules", modules, "readonly=on"),
        *disk("scratch", scratch, "cache=unsafe"),
        cmdline="dayfly.modules=vdb:erofs dayfly.scratch=vdc:ext4 dayfly.boot=agent",
    ).ready()
    script = (
        "cat /usr/lib/modules/test/marker; dd if=/dev/zero of=/var/big bs=1M count=200 conv=fsync status=none && "
        "df --output=fstype,size -BM / | tail -1 | tr -d M"
    )
    outcome = guest.run(["sh", "-c", script])
    marker, size = outcome.stdout.decode().splitlines()
    assert marker == "laid over"
    assert size.split()[0] == "overlay"
    assert 400 < int(size.split()[1]) < 512


def test_what_fails_at_the_start_is_told(boot: Boot) -> None:
    guest = boot(root="vda:ext4")
    guest.expect(HELLO)
    stage, _, text = guest.failure()
    assert (stage, text) == (2, "cannot mount /dev/vda as ext4: invalid argument")
    guest.done()
    assert "cannot mount /dev/vda" in guest.log()
    broken = initramfs.archive([initramfs.regular(f"{initramfs.MODULES_FOLDER}/overlay.ko", b"not a module")])
    guest = boot(more_modules=broken)
    guest.expect(HELLO)
    stage, _, text = guest.failure()
    assert stage == 1
    assert text.startswith("module overlay.ko: ")
    guest.done()


def test_system_mode(boot: Boot, library: Path, system_image: str) -> None:
    guest = boot(parts=parts_of(library, system_image), cmdline="dayfly.boot=system").ready()
    script = (
        "cat /proc/1/comm; cat /proc/self/cgroup; setsid sleep 1000 & "
        "systemctl is-active dayfly-agent multi-user.target; cat /etc/machine-id"
    )
    guest.start(["sh", "-c", script], extra=((12, b"pokus"), (16, b"0123456789abcdef" * 2)))
    outcome = guest.follow()
    expected = ["systemd", "0::/dayfly.job", "active", "active", "0123456789abcdef" * 2]
    assert outcome.stdout.decode().splitlines() == expected, (outcome, guest.log())
    guest.send(H_AGAIN)
    assert guest.expect(STAGE).payload == bytes([READY])
    script = "cat /proc/self/cgroup /etc/machine-id; hostname; hostnamectl hostname; pgrep -c sleep"
    outcome = guest.run(["sh", "-c", script], extra=((12, b"dayfly-0123456789"), (16, b"a" * 32)))
    expected = ["0::/dayfly.job", "a" * 32, "dayfly-0123456789", "dayfly-0123456789", "0"]
    assert outcome.stdout.decode().splitlines() == expected, (outcome, guest.log())


SURROUNDINGS = (
    "hostname; cat /etc/hostname /etc/machine-id; grep -c . /etc/hosts; grep 127.0.1.1 /etc/hosts; cat /sys/class/net/e*/address"
)
MAC = bytes.fromhex("525400abcdef")


def named(name: bytes, digit: bytes, mac: bytes = MAC) -> tuple[tuple[int, bytes], ...]:
    return (12, name), (16, digit * 32), (17, mac), (13, os.urandom(64)), (15, b"10.0.2.15/24 10.0.2.2 10.0.2.3")


def test_again_makes_a_stranger(boot: Boot, tmp_path: Path) -> None:
    """Jobs one after another in a machine, as a template's rehearsal and its clones' jobs are."""
    guest = boot(*NETWORK, *nine_p("w", tmp_path, 0)).ready()
    lines: list[list[str]] = []
    names = (b"dayfly-0123456789", b"dayfly-abcdefabcd", b"short", b"longer.example.org", b"dayfly-9876543210")
    for number, name in enumerate(names):
        guest.start(
            ["bash", "-c", SURROUNDINGS],
            extra=(*named(name, b"%d" % number, MAC[:5] + bytes([number])), share("w", "/w")),
            directory="/w",
        )
        lines.append(guest.follow().stdout.decode().splitlines())
        guest.send(H_AGAIN)
        assert guest.expect(STAGE).payload == bytes([READY])
    for number, (name, said) in enumerate(zip(names, lines, strict=True)):
        assert said[:3] == [name.decode(), name.decode(), str(number) * 32]
        assert said[3] == lines[0][3]  # no line of /etc/hosts more
        assert said[4].split() == ["127.0.1.1", name.decode(), *([name.decode().split(".")[0]] if b"." in name else [])]
        assert said[5] == f"52:54:00:ab:cd:{number:02x}"
    guest.start(["sh", "-c", "hostname; cat /etc/hostname /etc/machine-id; cat /etc/hosts; grep -c 9p /proc/mounts"])
    left = guest.follow().stdout.decode()
    assert left.startswith(f"dayfly-0000000000\ndayfly-0000000000\n{'0' * 32}\n")
    assert "127.0.1.1\tdayfly-0000000000\n" in left
    assert left.endswith("\n0\n")  # the folders are not mounted any more
    assert not [name for name in names if name.decode() in left]
    guest.done()


def test_again_counts_from_zero(guest: Guest) -> None:
    guest.start(["perl", "-e", "$_ = 'x' x 1e8; for $i (1 .. 3e6) { $n += $i } print 'y' x 1e6; sleep 1 while fork && ++$k < 3"])
    guest.send(H_DATA, b"input\n")
    first = guest.follow().exit
    assert first is not None
    guest.send(H_AGAIN)
    guest.expect(STAGE)
    guest.start(["sh", "-c", "cat; cat /sys/fs/cgroup/dayfly.job/memory.events | grep -w oom_kill"])
    guest.send(H_DATA, b"more\n")
    guest.send(H_END)
    outcome = guest.follow()
    assert outcome.exit is not None
    assert outcome.stdout == b"more\noom_kill 0\n"
    assert (outcome.exit.bytes_in, outcome.exit.bytes_out, outcome.exit.oom_kills) == (5, 16, 0)
    assert outcome.exit.user_us + outcome.exit.system_us < (first.user_us + first.system_us) / 2
    assert outcome.exit.peak < first.peak / 4
    guest.done()


def test_again_after_a_refused_start(guest: Guest) -> None:
    for argv, fields in (
        (["no-such-command"], {}),
        (["true"], {"extra": ((99, b""),)}),
        (["true"], {"extra": (share("none", "/x"),)}),
    ):
        guest.refused(argv, **fields)
        guest.send(H_AGAIN)
        assert guest.expect(STAGE).payload == bytes([READY])
    assert guest.run(["sh", "-c", "echo $PATH"]).stdout == f"{PATH.partition('=')[2]}\n".encode()


def test_again_gives_the_job_its_window_back(guest: Guest) -> None:
    for _ in range(2):
        guest.stdin_credit = 0
        guest.start(["sh", "-c", "head -c 1; head -c 3000000 /dev/zero"])
        for _ in range(STDIN_WINDOW // INPUT_LIMIT):
            guest.send(H_DATA, bytes(INPUT_LIMIT))
        assert len(guest.follow().stdout) == 3000001
        guest.send(H_AGAIN)
        guest.expect(STAGE)
    guest.run(["true"])


def test_files_that_a_job_replaced(guest: Guest) -> None:
    """What START stores into mapped files must not go to a file that is no more."""
    script = "echo 192.0.2.1 mine > /etc/new; mv /etc/new /etc/hosts; : > /etc/hostname; rm /etc/machine-id"
    guest.start(["sh", "-c", script], extra=((12, b"dayfly-0123456789"), (16, b"a" * 32)))
    guest.follow()
    guest.send(H_AGAIN)
    guest.expect(STAGE)
    extra = ((12, b"dayfly-9876543210"), (16, b"b" * 32))
    outcome = guest.run(["sh", "-c", "cat /etc/hosts /etc/hostname /etc/machine-id; hostname"], extra=extra)
    name = b"dayfly-9876543210\n"
    assert outcome.stdout == b"192.0.2.1 mine\n127.0.1.1\t" + name + name + b"b" * 32 + b"\n" + name


def test_random_seed_and_host_keys(guest: Guest) -> None:
    """An image with a server gets a key of its own at each START; here a script stands for the image's ssh-keygen."""
    prepare = r"""
        mkdir -p /var/lib/systemd /etc/ssh /usr/sbin; head -c 512 /dev/zero > /var/lib/systemd/random-seed
        touch /etc/ssh/ssh_host_rsa_key /etc/ssh/ssh_host_rsa_key.pub /etc/ssh/sshd_config
        printf '#!/bin/sh\n' > /usr/sbin/sshd
        exec > /usr/bin/ssh-keygen
        printf '#!/bin/sh\nhead -c 16 /dev/urandom | sha1sum > /etc/ssh/ssh_host_ed25519_key\n'
        printf 'echo "$@" > /etc/ssh/arguments\n'
        chmod 755 /usr/sbin/sshd /usr/bin/ssh-keygen
    """
    guest.start(["sh", "-c", prepare], extra=((13, os.urandom(64)),))
    guest.follow()
    look = "cd /var/lib/systemd; sha1sum < random-seed; stat -c %s random-seed; "
    look += "cd /etc/ssh; cat arguments; ls ssh_host*; cat ssh_host*"
    said = []
    for _ in range(2):
        guest.send(H_AGAIN)
        guest.expect(STAGE)
        guest.start(
            ["sh", "-c", look],
            extra=((13, os.urandom(64)), (12, b"dayfly-0123456789")),
        )
        said.append(guest.follow().stdout.decode().splitlines())
    guest.done()
    arguments = "-q -t ed25519 -N  -f /etc/ssh/ssh_host_ed25519_key"
    assert said[0][1:4] == said[1][1:4] == ["512", arguments, "ssh_host_ed25519_key"]
    assert said[0][0] != said[1][0]
    assert said[0][4] != said[1][4]
