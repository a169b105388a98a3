"""The agent in a bare QEMU, spoken to with a socket and `struct`: docs/reference/guest-protocol.md seen from the host.

Nothing of the product's host side is used but the initramfs writer, so that a mistake cannot be made the same way on
both sides.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dayfly.machine.guest import initramfs

HELLO, STAGE, FAILED, STARTED, DATA, END, GRANT, CLOSED, EXITED = range(1, 10)
START, H_DATA, H_END, H_GRANT, H_CLOSED, H_SIGNAL, H_WINDOW, H_CLOCK, H_DONE = range(0x41, 0x4A)
ROOT, READY = 1, 2
STDIN_WINDOW, OUTPUT_WINDOW = 256 << 10, 1 << 20
MODULES = (
    *("virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_console"),
    *("virtio_blk", "crc32c_generic", "libcrc32c", "erofs", "overlay", "crc16", "mbcache", "jbd2", "ext4"),
    *("netfs", "fscache", "9pnet", "9pnet_virtio", "9p", "failover", "net_failover", "virtio_net"),
)
KERNEL_OPTIONS = "quiet loglevel=0 panic=-1 console=ttyS0 tsc=reliable no_timer_check audit=0 apparmor=0 rcupdate.rcu_expedited=1"
PATH = "PATH=/usr/local/bin:/usr/bin:/bin"
SECONDS = 120.0


@dataclass(frozen=True)
class Parts:
    kernel: Path
    root: Path
    agent: bytes
    modules: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True)
class Frame:
    kind: int
    stream: int
    payload: bytes


@dataclass(frozen=True)
class Exit:
    signalled: int
    value: int
    oom_kills: int
    user_us: int
    system_us: int
    peak: int
    bytes_out: int
    bytes_in: int


@dataclass
class Outcome:
    out: dict[int, bytearray] = field(default_factory=lambda: {1: bytearray(), 2: bytearray()})
    ended: list[int] = field(default_factory=list)
    closed: bool = False
    exit: Exit | None = None

    @property
    def stdout(self) -> bytes:
        return bytes(self.out[1])

    @property
    def stderr(self) -> bytes:
        return bytes(self.out[2])

    @property
    def status(self) -> tuple[str, int]:
        assert self.exit is not None
        return ("signal" if self.exit.signalled else "code", self.exit.value)


def has_exited(outcome: Outcome) -> bool:
    return outcome.exit is not None


def tlv(tag: int, value: bytes) -> bytes:
    return struct.pack("<HHI", tag, 0, len(value)) + value


def start_fields(
    argv: Sequence[str],
    *,
    env: Sequence[str] = (PATH,),
    directory: str = "/",
    identity: Sequence[int] = (0, 0),
    extra: Sequence[tuple[int, bytes]] = (),
) -> bytes:
    fields = [tlv(1, a.encode()) for a in argv] + [tlv(2, e.encode()) for e in env]
    fields += [tlv(3, directory.encode()), tlv(4, struct.pack(f"<{len(identity)}I", *identity))]
    return b"".join(fields + [tlv(tag, value) for tag, value in extra])


def share(tag: str, path: str, *, read_only: bool = False) -> tuple[int, bytes]:
    return 11, struct.pack("<I", read_only) + tag.encode() + b"\0" + path.encode()


class Guest:
    """One machine and the host's end of its port."""

    def __init__(self, process: subprocess.Popen[bytes], port: socket.socket, console: Path) -> None:
        self.process = process
        self.port = port
        self.console = console
        self.stdin_credit = STDIN_WINDOW
        self.buffer = b""

    def send(self, kind: int, payload: bytes = b"", stream: int = 0) -> None:
        self.port.sendall(struct.pack("<BBHI", kind, stream, 0, len(payload)) + payload)

    def frame(self) -> Frame:
        kind, stream, zero, length = struct.unpack("<BBHI", self._exactly(8))
        assert zero == 0
        assert length <= 65536
        return Frame(kind, stream, self._exactly(length))

    def _exactly(self, length: int) -> bytes:
        while len(self.buffer) < length:
            chunk = self.port.recv(1 << 20)
            if not chunk:
                raise EOFError(f"the port closed; console:\n{self.log()}")
            self.buffer += chunk
        taken, self.buffer = self.buffer[:length], self.buffer[length:]
        return taken

    def log(self) -> str:
        return self.console.read_text(errors="replace") if self.console.exists() else ""

    def expect(self, kind: int) -> Frame:
        frame = self.frame()
        assert frame.kind == kind, (frame.kind, frame.payload, self.log())
        return frame

    def ready(self) -> Guest:
        self.expect(HELLO)
        assert self.expect(STAGE).payload == bytes([ROOT])
        assert self.expect(STAGE).payload == bytes([READY])
        return self

    def start(self, argv: Sequence[str], **fields: object) -> int:
        self.send(START, start_fields(argv, **fields))  # type: ignore[arg-type]
        pid: int = struct.unpack("<I", self.expect(STARTED).payload)[0]
        return pid

    def refused(self, argv: Sequence[str], **fields: object) -> tuple[int, str]:
        self.send(START, start_fields(argv, **fields))  # type: ignore[arg-type]
        return self.failure()[1:]

    def failure(self) -> tuple[int, int, str]:
        frame = self.expect(FAILED)
        stage, kind, _ = struct.unpack_from("<BBH", frame.payload)
        return stage, kind, frame.payload[4:].decode()

    def follow(self, until: Callable[[Outcome], bool] = has_exited, outcome: Outcome | None = None) -> Outcome:
        """Takes frames, and grants what it took, until the job has exited or the test has seen enough."""
        outcome = outcome or Outcome()
        while not until(outcome):
            self.take(self.frame(), outcome)
        return outcome

    def take(self, frame: Frame, outcome: Outcome) -> None:
        if frame.kind == DATA:
            assert frame.stream not in outcome.ended
            outcome.out[frame.stream] += frame.payload
            self.send(H_GRANT, struct.pack("<I", len(frame.payload)), frame.stream)
        elif frame.kind == END:
            assert frame.stream not in outcome.ended
            outcome.ended.append(frame.stream)
        elif frame.kind == GRANT:
            self.stdin_credit += struct.unpack("<I", frame.payload)[0]
            assert self.stdin_credit <= STDIN_WINDOW
        elif frame.kind == CLOSED:
            outcome.closed = True
        else:
            assert frame.kind == EXITED, (frame, self.log())
            assert sorted(outcome.ended) == [1, 2]
            kind, value, zero, *numbers = struct.unpack("<BBHIQQQQQ", frame.payload)
            assert zero == 0
            outcome.exit = Exit(kind, value, *numbers)

    def done(self) -> None:
        self.send(H_DONE)
        assert self.process.wait(SECONDS) == 0, self.log()

    def run(self, argv: Sequence[str], **fields: object) -> Outcome:
        self.start(argv, **fields)
        outcome = self.follow()
        self.done()
        return outcome


def environment_path(name: str) -> Path:
    value = os.environ.get(name)
    if not value:
        pytest.skip(f"{name} is not set")
    return Path(value)


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    kernel, folder, root = (environment_path(f"DAYFLY_TEST_{name}") for name in ("KERNEL", "MODULES", "ROOT"))
    agent = tmp_path_factory.mktemp("agent") / "agent"
    sources = sorted((Path(__file__).parents[2] / "guest").glob("*.c"))
    subprocess.run(["cc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O2", "-static", "-s", "-o", agent, *sources], check=True)
    found = {path.name: path for path in folder.rglob("*.ko")}
    modules = tuple((f"{name}.ko", initramfs.without_signature(found[f"{name}.ko"].read_bytes())) for name in MODULES)
    return Parts(kernel, root, agent.read_bytes(), modules)


Boot = Callable[..., Guest]


@pytest.fixture
def boot(parts: Parts, tmp_path: Path) -> Iterator[Boot]:
    with contextlib.ExitStack() as stack:

        def machine(
            *devices: str,
            cmdline: str = "dayfly.root=vda:erofs dayfly.boot=agent",
            modules: Sequence[tuple[str, bytes]] = parts.modules,
            memory: int = 512,
            cpus: int = 1,
            root: Path = parts.root,
        ) -> Guest:
            initrd, console = tmp_path / "initrd", tmp_path / "console"
            initrd.write_bytes(initramfs.agent_archive(parts.agent) + initramfs.modules_archive(modules))
            ours, theirs = socket.socketpair()
            ours.settimeout(SECONDS)
            # fmt: off
            command = [
                *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none"),
                *("-accel", "tcg,thread=multi"),
                *("-cpu", "Nehalem,+rdrand,+aes,+pclmulqdq"),
                *("-M", "q35,usb=off,vmport=off,sata=off,smbus=off,hpet=off"),
                *("-m", str(memory), "-smp", str(cpus), "-no-reboot"),
                *("-kernel", str(parts.kernel), "-initrd", str(initrd)),
                *("-append", f"{KERNEL_OPTIONS} {cmdline}"),
                *("-chardev", f"file,id=console,path={console}", "-device", "isa-serial,chardev=console"),
                *disk("root", root, "readonly=on,file.locking=off"),
                *("-device", "virtio-serial-pci,id=vser,max_ports=16"),
                *("-chardev", f"socket,id=agent,fd={theirs.fileno()}"),
                *("-device", "virtserialport,chardev=agent,name=org.dayfly.agent"),
                *devices,
            ]
            # fmt: on
            process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
            theirs.close()
            stack.callback(ours.close)
            stack.callback(process.wait)
            stack.callback(process.kill)
            return Guest(process, ours, console)

        yield machine


def disk(name: str, path: Path, options: str) -> tuple[str, ...]:
    drive = f"if=none,id={name},file={path},format=raw,{options}"
    return "-drive", drive, "-device", f"virtio-blk-pci,drive={name}"


def nine_p(tag: str, folder: Path, number: int, *, read_only: bool = False) -> tuple[str, ...]:
    options = ",readonly=on" if read_only else ""
    return (
        *("-fsdev", f"local,id=f{number},path={folder},security_model=none,multidevs=remap{options}"),
        *("-device", f"virtio-9p-pci,fsdev=f{number},mount_tag={tag}"),
    )


NETWORK = ("-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0,romfile=")


def test_stages_then_true(boot: Boot) -> None:
    guest = boot()
    hello = guest.expect(HELLO).payload
    assert hello[:8] == b"DFLY\x01\x00\x00\x00"
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


def test_both_streams_and_exit_code(boot: Boot) -> None:
    outcome = boot().ready().run(["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert (outcome.stdout, outcome.stderr, outcome.status) == (b"out\n", b"err\n", ("code", 7))


def test_cat_echoes_8_mib(boot: Boot) -> None:
    guest = boot().ready()
    guest.start(["cat"])
    data = os.urandom(8 << 20)
    outcome = Outcome()
    at = 0
    while at < len(data):
        part = data[at : at + min(65536, guest.stdin_credit)]
        if part:
            guest.send(H_DATA, part)
            guest.stdin_credit -= len(part)
            at += len(part)
        else:
            guest.take(guest.frame(), outcome)
    guest.send(H_END)
    guest.follow(outcome=outcome)
    guest.done()
    assert outcome.stdout == data
    assert not outcome.closed
    assert outcome.exit is not None
    assert (outcome.exit.bytes_in, outcome.exit.bytes_out) == (len(data), len(data))


def test_writer_that_exits_at_once_loses_nothing_to_a_stalled_reader(boot: Boot) -> None:
    guest = boot().ready()
    guest.start(["sh", "-c", "head -c 5000000 /dev/zero | tr '\\0' x; echo end >&2"])
    first = guest.follow(lambda outcome: len(outcome.stderr) > 0 or len(outcome.stdout) >= 4_500_000)
    time.sleep(3)  # the job has long ended
    outcome = guest.follow(outcome=first)
    guest.done()
    assert outcome.stdout == b"x" * 5000000
    assert outcome.stderr == b"end\n"


def test_a_stalled_stdout_stalls_nothing_else(boot: Boot) -> None:
    guest = boot().ready()
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


def test_main_process_ends_while_the_reader_stalls(boot: Boot) -> None:
    guest = boot().ready()
    guest.start(["head", "-c", "2097152", "/dev/zero"])  # one window on the way, one more in the pipe
    held = 0
    while held < OUTPUT_WINDOW:
        held += len(guest.expect(DATA).payload)
    time.sleep(2)
    guest.send(H_GRANT, struct.pack("<I", held), 1)
    outcome = guest.follow()
    assert len(outcome.stdout) + held == 2097152
    assert outcome.status == ("code", 0)


def test_death_by_signal(boot: Boot) -> None:
    assert boot().ready().run(["sh", "-c", "kill -SEGV $$"]).status == ("signal", signal.SIGSEGV)


def test_signals_reach_the_group(boot: Boot) -> None:
    guest = boot().ready()
    guest.start(["sh", "-c", "trap 'echo caught; exit 9' TERM; echo set; while :; do sleep 0.1; done"])
    outcome = guest.follow(lambda outcome: outcome.stdout == b"set\n")
    guest.send(H_SIGNAL, bytes([signal.SIGTERM]))
    guest.follow(outcome=outcome)
    assert outcome.stdout == b"set\ncaught\n"
    assert outcome.status == ("code", 9)


def test_identity_surroundings_and_limits(boot: Boot) -> None:
    script = (
        "id -u; id -g; id -G; id -un; umask; pwd; echo $GREETING; env | sort | tr '\\n' ' '; echo; "
        "ulimit -Sn; ulimit -Hn; ulimit -c; echo ~; hostname; cat /etc/machine-id; stat -c %U:%a ~; "
        "nice; cat /proc/self/oom_score_adj; date +%Y; echo ok > /dev/stderr; "
        "grep -E 'Sig(Blk|Ign)' /proc/self/status | tr '\\n' ' '; echo; grep pokus /etc/hosts"
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
        (16, b"0123456789abcdef" * 2),
    )
    env = ("GREETING=hej  hej", "HOME=/home/pat", PATH)
    identity = (4242, 4300, 4300, 4301)
    outcome = boot().ready().run(["sh", "-c", script], env=env, directory="/var/tmp", identity=identity, extra=extra)
    lines = outcome.stdout.decode().splitlines()
    assert lines[:7] == ["4242", "4300", "4300 4301", "pat", "0027", "/var/tmp", "hej hej"]
    assert lines[7].split() == ["GREETING=hej", "hej", "HOME=/home/pat", PATH, "PWD=/var/tmp"]
    assert lines[8:14] == ["777", "2000000", "0", "/home/pat", "pokus.example.org", "0123456789abcdef" * 2]
    assert lines[14:18] == ["pat:700", "0", "0", "2030"]
    assert lines[18].split() == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16]
    assert lines[19].split() == ["127.0.1.1", "pokus.example.org", "pokus"]
    assert outcome.stderr == b"ok\n"


def test_terminal(boot: Boot) -> None:
    guest = boot().ready()
    script = (
        "tty; stty size; trap 'stty size; exit 5' WINCH; test -t 0 && test -t 2 && echo terminal >&2; while :; do sleep 0.1; done"
    )
    guest.start(["bash", "-c", script], identity=(1234, 1234), extra=((9, struct.pack("<4H", 33, 101, 0, 0)),))
    outcome = guest.follow(lambda outcome: b"terminal\r\n" in outcome.stdout)
    guest.send(H_WINDOW, struct.pack("<4H", 44, 132, 0, 0))
    guest.follow(outcome=outcome)
    guest.done()
    assert outcome.stdout == b"/dev/pts/0\r\n33 101\r\nterminal\r\n44 132\r\n"
    assert outcome.status == ("code", 5)


def test_terminal_input_and_its_end(boot: Boot) -> None:
    guest = boot().ready()
    guest.start(["sh", "-c", "stty -echo; echo go; cat; echo done"], extra=((9, struct.pack("<4H", 24, 80, 0, 0)),))
    outcome = guest.follow(lambda outcome: outcome.stdout == b"go\r\n")
    guest.send(H_DATA, b"one\ntwo")
    guest.send(H_END)
    guest.follow(outcome=outcome)
    assert outcome.stdout == b"go\r\none\r\ntwodone\r\n"


def test_interrupt_typed_on_the_terminal(boot: Boot) -> None:
    guest = boot().ready()
    guest.start(["sh", "-c", "echo go; sleep 100"], extra=((9, struct.pack("<4H", 24, 80, 0, 0)),))
    outcome = guest.follow(lambda outcome: outcome.stdout == b"go\r\n")
    guest.send(H_DATA, b"\x03")
    assert guest.follow(outcome=outcome).status == ("signal", signal.SIGINT)


def test_merged(boot: Boot) -> None:
    outcome = boot().ready().run(["sh", "-c", "echo a; echo b >&2; echo c"], extra=((10, b""),))
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
        (["./simulate.sh"], {}, 1, "./simulate.sh: no such file or directory"),
        (["/etc/passwd"], {}, 2, "/etc/passwd: permission denied"),
        (["/etc"], {}, 2, "/etc: permission denied"),
        (["true"], {"directory": "/not/here"}, 3, "/not/here: no such file or directory"),
        (["true"], {"directory": "/root", "identity": (77, 77)}, 3, "/root: permission denied"),
        (["true"], {"extra": (share("none", "/x"),)}, 4, "/x: no such device"),
        (["true"], {"extra": ((8, struct.pack("<IIQQ", 7, 0, 9, 3)),)}, 5, "limit: invalid argument"),
        (["true"], {"extra": ((15, b"10.0.2.15/24 10.0.2.2 10.0.2.3"),)}, 6, "network: no such device"),
        (["true"], {"extra": ((99, b""),)}, 7, "START: unknown field"),
        (["true"], {"identity": (2**32 - 1, 0)}, 7, "START: identity: -1 is no user or group"),
    ],
)
def test_refused_starts(boot: Boot, argv: list[str], fields: dict[str, object], kind: int, text: str) -> None:
    guest = boot().ready()
    assert guest.refused(argv, **fields) == (kind, text)
    guest.done()


def test_script_without_a_known_format_and_one_without_its_interpreter(boot: Boot, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("echo plain $1\n")
    (tmp_path / "plain").chmod(0o755)
    device = nine_p("w", tmp_path, 0)
    outcome = boot(*device).ready().run(["./plain", "arg"], directory="/w", extra=(share("w", "/w"),))
    assert outcome.stdout == b"plain arg\n"
    (tmp_path / "orphan").write_text("#!/no/such/interpreter\n")
    (tmp_path / "orphan").chmod(0o755)
    kind, text = boot(*device).ready().refused(["./orphan"], directory="/w", extra=(share("w", "/w"),))
    assert (kind, text) == (1, "./orphan: its interpreter: no such file or directory")


def test_out_of_memory_is_counted(boot: Boot) -> None:
    outcome = boot(memory=256).ready().run(["perl", "-e", "$x .= 'x' x (1 << 20) while 1"])
    assert outcome.status == ("signal", signal.SIGKILL)
    assert outcome.exit is not None
    assert outcome.exit.oom_kills >= 1
    assert outcome.exit.peak > 64 << 20


def test_fork_bomb_can_be_killed(boot: Boot) -> None:
    guest = boot(memory=256).ready()
    unlimited = (8, struct.pack("<IIQQ", resource.RLIMIT_NPROC, 0, 2**64 - 1, 2**64 - 1))
    guest.start(["bash", "-c", "echo go; b() { b | b & }; b; sleep 1000"], extra=(unlimited,))
    outcome = guest.follow(lambda outcome: outcome.stdout == b"go\n")
    stop = time.monotonic() + 8
    guest.port.settimeout(1)
    while time.monotonic() < stop:  # its complaints must not fill our side while it grows
        with contextlib.suppress(TimeoutError):
            guest.take(guest.frame(), outcome)
    guest.port.settimeout(SECONDS)
    guest.send(H_SIGNAL, bytes([signal.SIGKILL]))
    asked = time.monotonic()
    guest.follow(outcome=outcome)
    assert outcome.status == ("signal", signal.SIGKILL)
    assert time.monotonic() - asked < 60
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
    ],
)
def test_a_broken_peer_is_told_and_the_machine_goes_off(boot: Boot, bytes_sent: bytes, *, before_start: bool) -> None:
    guest = boot().ready()
    if not before_start:
        guest.start(["sleep", "100"])
    guest.port.sendall(bytes_sent)
    stage, kind, text = guest.failure()
    assert (stage, kind) == (4, 0)
    assert text.startswith("the host broke the protocol: ")
    assert guest.process.wait(SECONDS) == 0


def test_more_stdin_than_granted_is_broken(boot: Boot) -> None:
    guest = boot().ready()
    guest.start(["sleep", "100"])
    for _ in range(20):  # more than its pipe and our window hold
        guest.send(H_DATA, bytes(65536))
    while (frame := guest.frame()).kind in (GRANT, END):
        pass
    assert frame.kind == FAILED


def test_what_the_job_left_running_is_killed(boot: Boot) -> None:
    script = (
        "setsid sh -c 'trap \"\" TERM HUP; while :; do echo still; sleep 0.2; done' & (trap '' HUP; sleep 1000) & "
        "sleep 0.5; echo bye >&2"
    )
    guest = boot().ready()
    begin = time.monotonic()
    outcome = guest.run(["sh", "-c", script])
    assert outcome.stderr == b"bye\n"
    assert outcome.stdout.startswith(b"still\n")
    assert outcome.status == ("code", 0)
    assert time.monotonic() - begin < 30


def test_stdin_closed_by_the_job(boot: Boot) -> None:
    guest = boot().ready()
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


def test_reader_closed_gives_sigpipe(boot: Boot) -> None:
    guest = boot().ready()
    guest.start(["cat", "/dev/zero"])
    outcome = guest.follow(lambda outcome: len(outcome.stdout) > 100000)
    guest.send(H_CLOSED, stream=1)
    guest.follow(lambda outcome: outcome.exit is not None, outcome)
    guest.done()
    assert outcome.status == ("signal", signal.SIGPIPE)


def test_network_reaches_the_host(boot: Boot) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(SECONDS)
        heard: list[bytes] = []

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                heard.append(connection.recv(100))
                connection.sendall(b"from the host\n")

        thread = threading.Thread(target=answer)
        thread.start()
        port = server.getsockname()[1]
        script = f"exec 3<>/dev/tcp/10.0.2.2/{port}; echo hello >&3; cat <&3; cat /etc/resolv.conf; exec 4<>/dev/tcp/127.0.0.1/1"
        extra = ((15, b"10.0.2.15/24 10.0.2.2 10.0.2.3"),)
        outcome = boot(*NETWORK).ready().run(["bash", "-c", script], extra=extra)
        thread.join()
    assert heard == [b"hello\n"]
    assert outcome.stdout == b"from the host\nnameserver 10.0.2.3\n"
    assert b"Connection refused" in outcome.stderr  # lo is up


def test_clock_is_set_while_running(boot: Boot) -> None:
    guest = boot().ready()
    guest.start(["sh", "-c", "read line; date -u +%s"])
    guest.send(H_CLOCK, struct.pack("<Q", 2_000_000_000 * 10**9))
    guest.send(H_DATA, b"\n")
    outcome = guest.follow()
    assert 0 <= int(outcome.stdout) - 2_000_000_000 < 30


def test_scratch_and_modules_layers(boot: Boot, tmp_path: Path) -> None:
    if not shutil.which("mkfs.ext4") or not shutil.which("mkfs.erofs"):
        pytest.skip("mkfs.ext4 and mkfs.erofs are needed")
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
        cmdline="dayfly.root=vda:erofs dayfly.modules=vdb:erofs dayfly.scratch=vdc:ext4 dayfly.boot=agent",
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


def test_what_fails_at_the_start_is_told(boot: Boot, parts: Parts) -> None:
    guest = boot(cmdline="dayfly.root=vda:ext4")
    guest.expect(HELLO)
    stage, _, text = guest.failure()
    assert (stage, text) == (2, "cannot mount /dev/vda as ext4: invalid argument")
    guest.done()
    assert "cannot mount /dev/vda" in guest.log()
    broken = [(name, b"not a module" if name == "overlay.ko" else content) for name, content in parts.modules]
    guest = boot(modules=broken)
    guest.expect(HELLO)
    stage, _, text = guest.failure()
    assert stage == 1
    assert text.startswith("module overlay.ko: ")
    guest.done()


def test_system_mode(boot: Boot) -> None:
    root = environment_path("DAYFLY_TEST_SYSTEM_ROOT")
    guest = boot(cmdline="dayfly.root=vda:erofs dayfly.boot=system", root=root, memory=1024).ready()
    script = (
        "cat /proc/1/comm; cat /proc/self/cgroup; setsid sleep 1000 & "
        "systemctl is-active dayfly-agent multi-user.target; cat /etc/machine-id"
    )
    outcome = guest.run(["sh", "-c", script], extra=((12, b"pokus"), (16, b"0123456789abcdef" * 2)))
    expected = ["systemd", "0::/dayfly.job", "active", "active", "0123456789abcdef" * 2]
    assert outcome.stdout.decode().splitlines() == expected, (outcome, guest.log())
