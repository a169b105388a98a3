"""A machine with the agent and nothing of the product around it: spoken to with a socket and `struct`.

Nothing of the product's host side is used but the initramfs writer, so that a error cannot be made the same way on
both sides.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dayfly.image.library import Library
from dayfly.image.reference import parse
from dayfly.provision.agent import AGENT_ARCHIVE

HELLO, STAGE, FAILED, STARTED, DATA, END, GRANT, CLOSED, EXITED = range(1, 10)
START, H_DATA, H_END, H_GRANT, H_CLOSED, H_SIGNAL, H_WINDOW, H_CLOCK, H_DONE, H_AGAIN = range(0x41, 0x4B)
ROOT, READY = 1, 2
STDIN_WINDOW, OUTPUT_WINDOW = 256 << 10, 1 << 20
INPUT_LIMIT, OUTPUT_LIMIT = 64 << 10, 256 << 10
KERNEL_OPTIONS = "quiet loglevel=0 panic=-1 console=ttyS0 tsc=reliable no_timer_check audit=0 apparmor=0 rcupdate.rcu_expedited=1"
PATH = "PATH=/usr/local/bin:/usr/bin:/bin"
SECONDS = 240.0


@dataclass(frozen=True)
class Parts:
    """What a machine is made of: the image's blobs, its root's type, and its own words for the kernel's command line."""

    kernel: Path
    root: Path
    form: str
    modules: bytes
    words: str


def parts_of(library: Path, image: str) -> Parts:
    """Those of an image in a library. The blobs stay there as long as the image does."""
    with Library(library).open(parse(image)) as opened:
        assert opened.kernel is not None
        assert opened.boot_modules is not None
        modules = opened.boot_modules.path.read_bytes()
        return Parts(opened.kernel.path, opened.root.path, opened.root.form, modules, opened.config.kernel.command_line)


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
        assert length <= OUTPUT_LIMIT
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

    def save(self, file: Path) -> None:
        """Write the machine to a file, and end it. `spawn` starts copies of it."""
        assert self.process.stdin is not None
        self.process.stdin.write(f'migrate "exec:cat > {file}"\nquit\n'.encode())
        self.process.stdin.close()
        assert self.process.wait(SECONDS) == 0, self.log()

    def end(self) -> None:
        """Whatever it does."""
        self.process.kill()
        self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()
        self.port.close()


def spawn(
    parts: Parts,
    folder: Path,
    *devices: str,
    cmdline: str = "dayfly.boot=agent",
    root: str = "",
    more_modules: bytes = b"",
    memory: int = 512,
    saved: Path | None = None,
) -> Guest:
    """Start a machine, whose files are in the folder. `more_modules` is laid over the image's.

    It boots, or goes on as a machine that was `saved` with the same parts and devices.
    """
    initrd, console = folder / "initrd", folder / "console"
    initrd.write_bytes(AGENT_ARCHIVE.read_bytes() + parts.modules + more_modules)
    ours, theirs = socket.socketpair()
    ours.settimeout(SECONDS)
    # fmt: off
    command = [
        *(os.environ.get("DAYFLY_TEST_QEMU", "qemu-system-x86_64"), "-nodefaults", "-no-user-config", "-display", "none"),
        *("-accel", "tcg,thread=multi"),
        *("-cpu", "Nehalem,+rdrand,+aes,+pclmulqdq"),
        *("-M", "q35,usb=off,vmport=off,sata=off,smbus=off,hpet=off"),
        *("-m", str(memory), "-no-reboot"),
        *("-kernel", str(parts.kernel), "-initrd", str(initrd)),
        *("-append", f"{KERNEL_OPTIONS} {parts.words} dayfly.root={root or f'vda:{parts.form}'} {cmdline}"),
        *("-chardev", f"file,id=console,path={console}", "-device", "isa-serial,chardev=console"),
        *disk("root", parts.root, "readonly=on,file.locking=off"),
        *("-device", "virtio-serial-pci,id=vser,max_ports=16"),
        *("-chardev", f"socket,id=agent,fd={theirs.fileno()}"),
        *("-device", "virtserialport,chardev=agent,name=org.dayfly.agent"),
        *("-chardev", "stdio,id=monitor,signal=off", "-mon", "chardev=monitor,mode=readline"),
        *devices,
        *(("-incoming", f"exec:cat {saved}") if saved else ()),
    ]
    # fmt: on
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    theirs.close()
    return Guest(process, ours, console)


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
