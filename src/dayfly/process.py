"""How Dayfly starts other programs: argv lists, children with an explicit lifetime, failures with their last lines.

This is on the hot path of every job, so it uses only the cheap parts of the standard library: no `subprocess`, no `asyncio`.
"""

from __future__ import annotations

import os
import resource
import select
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum

from dayfly import inherited
from dayfly.errors import ProgramFailed, ProgramMissing
from dayfly.values import dataclass

TYPE_CHECKING = False  # typing's own costs an import at every start, and checkers know the name
if TYPE_CHECKING:
    from typing import NoReturn

Environment = Mapping[str, str] | Mapping[bytes, bytes]
_PR_SET_PDEATHSIG = 1
_TAIL_LINES = 20
_LINE_LIMIT = 4096
_CAPTURE_LIMIT = 64 * 1024 * 1024

RESOURCES = range(16)
"""The numbers of Linux's resource limits (getrlimit(2); include/uapi/asm-generic/resource.h)."""

TERMINAL_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
"""Signals that a terminal or a batch system sends to a whole process group; a shielded child must not act on them itself."""


class Lifetime(StrEnum):
    """How long a child lives.

    An `OWNED` one is killed when this process ends, however it ends. A `DETACHED` one goes on: it leads a session of its own,
    without a terminal, and inherits no descriptors and no ignored or blocked signals but those that it is given.
    """

    OWNED = "owned"
    DETACHED = "detached"


@dataclass(frozen=True)
class Child:
    """A running child. `pidfd` becomes readable when it ends; the owner reaps it with `wait` and then closes it."""

    pid: int
    pidfd: int
    command: tuple[str, ...]

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal; it is no error if the child has already ended."""
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            return

    def kill_group(self) -> None:
        """Kill the child and its process group; the child must have been spawned with a group of its own."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def killed(self) -> bool:
        """Wait for the end, without reaping. Returns whether a signal ended it."""
        ended = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOWAIT)
        return ended is not None and ended.si_code in (os.CLD_KILLED, os.CLD_DUMPED)

    def wait(self) -> tuple[int, float]:
        """Wait for the end: its status (negative: the signal that ended it) and the CPU seconds it used."""
        _, status, usage = os.wait4(self.pid, 0)
        os.close(self.pidfd)
        return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime


@dataclass(frozen=True)
class Completed:
    """The result of a program: its exit status and its stdout."""

    status: int
    output: bytes


def find(program: str, package: str = "") -> str:
    """The path of a program on PATH; a path is returned as it is. Raises `ProgramMissing`, which names the Debian package."""
    candidates = [program] if "/" in program else [f"{folder}/{program}" for folder in search_path()]
    for candidate in candidates:
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):  # noqa: PTH112 (a hot path: no pathlib objects)
            return candidate
    raise ProgramMissing(program, package)


def search_path() -> list[str]:
    """PATH, plus the folders of system programs that an ordinary user's PATH does not have."""
    folders = [folder for folder in os.get_exec_path() if folder]
    return folders + [folder for folder in ("/usr/sbin", "/sbin") if folder not in folders]


def spawn(
    argv: Sequence[str],
    *,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    keep: Sequence[int] = (),
    env: Environment | None = None,
    cwd: str | None = None,
    shielded: bool = False,
    grouped: bool = False,
    lifetime: Lifetime = Lifetime.OWNED,
) -> Child:
    """Start a program.

    `env` is its environment (None: the caller's of Dayfly). `stdin`, `stdout`, `stderr` are descriptors (None: /dev/null),
    `keep` are further descriptors it inherits under their numbers. A `shielded` child shares our process group (so that a
    batch system that stops or kills a group reaches it) but does not act on the signals of a terminal: the parent handles
    them. A `grouped` one leads a group of its own.

    Raises `ProgramMissing` or `ProgramFailed` if it cannot be executed.
    """
    path = find(argv[0])
    prctl = _prctl()
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    report, child_report = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        streams = [null if stream is None else stream for stream in (stdin, stdout, stderr)]
        owned = lifetime is Lifetime.OWNED
        live = (lambda: _tie(parent, prctl)) if owned else (lambda: _detach({*keep, *streams, child_report}))
        _become(path, argv, streams, keep, env, cwd, live, shielded, grouped, child_report)
    os.close(child_report)
    os.close(null)
    with os.fdopen(report, "rb") as pipe:
        error = pipe.read()
    if error:
        os.waitpid(pid, 0)
        raise ProgramFailed(argv, 127, error.decode())
    return Child(pid, os.pidfd_open(pid), tuple(argv))


def _tie(parent: int, prctl: Callable[..., int]) -> None:
    """In the forked child: be killed when the parent ends."""
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)  # the parent died before the line above took effect


def _detach(keep: set[int]) -> None:
    """In the forked child: keep nothing of the parent but these descriptors."""
    os.setsid()
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    for descriptor in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208 (a hot path)
        if descriptor > 2 and descriptor not in keep:
            try:
                os.close(descriptor)
            except OSError:  # the one that listed them
                continue


def _become(
    path: str,
    argv: Sequence[str],
    streams: Sequence[int],
    keep: Sequence[int],
    env: Environment | None,
    cwd: str | None,
    live: Callable[[], None],
    shielded: bool,
    grouped: bool,
    report: int,
) -> NoReturn:
    """In the forked child: become the program, or write why not to `report` and exit."""
    try:
        live()
        for target, stream in enumerate([os.dup(stream) for stream in streams]):
            os.dup2(stream, target)
        for descriptor in keep:
            os.set_inheritable(descriptor, True)
        if cwd is not None:
            os.chdir(cwd)
        if grouped:
            os.setpgid(0, 0)
        if shielded:
            signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL_SIGNALS)
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            signal.signal(signal.SIGUSR2, signal.SIG_IGN)
            raise_limits()
        else:
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execve(path, list(argv), inherited.environment() if env is None else env)
    except OSError as error:
        os.write(report, str(error).encode())
    finally:
        os._exit(127)


def _prctl() -> Callable[..., int]:
    """The C library's prctl(2)."""
    import ctypes  # noqa: PLC0415 (not for commands that start no program)

    function: Callable[..., int] = ctypes.CDLL(None).prctl
    return function


def die_with_parent() -> None:
    """End silently when the parent of this process ends: nobody would read later output."""
    parent = os.getppid()
    _prctl()(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def limits() -> tuple[tuple[int, int], ...]:
    """The soft and the hard limit of each resource, by its number."""
    return tuple(resource.getrlimit(number) for number in RESOURCES)


def lower_limits(soft: Mapping[int, int]) -> None:
    """Set soft limits by their numbers, as far as the hard ones allow."""
    for number, wanted in soft.items():
        _, hard = resource.getrlimit(number)
        within = hard == resource.RLIM_INFINITY or 0 <= wanted <= hard
        resource.setrlimit(number, (wanted if within else hard, hard))


def raise_limits() -> None:
    """Raise the soft limits of CPU time and file size: they are for the job, not for the programs that run it. Disable core dumps
    of these programs.
    """
    for number in RESOURCES:
        _, hard = resource.getrlimit(number)
        resource.setrlimit(number, (hard, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run(
    argv: Sequence[str],
    *,
    stdin: int | None = None,
    stdout: int | None = None,
    env: Environment | None = None,
    cwd: str | None = None,
    keep: Sequence[int] = (),
    check: bool = True,
    progress: Callable[[str], None] | None = None,
    spawned: Callable[[Child], None] | None = None,
    hint: str = "",
) -> Completed:
    """Run a program to its end.

    Its stdout goes to the descriptor `stdout`, or else is captured (at most 64 MiB). Each line of its stderr goes to
    `progress`. `spawned` is called once it has started; if that raises, the program is ended. Raises `ProgramFailed` with the
    last lines of stderr if `check` and the status is not 0.
    """
    captured = os.memfd_create("stdout", os.MFD_CLOEXEC) if stdout is None else None
    reader, writer = os.pipe()
    try:
        output = stdout if captured is None else captured
        child = spawn(argv, stdin=stdin, stdout=output, stderr=writer, env=env, cwd=cwd, keep=keep, grouped=True)
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    tail: list[str] = []
    try:
        if spawned:
            spawned(child)
        for line in _lines(reader, child):
            tail = [*tail[-(_TAIL_LINES - 1) :], line]
            if progress:
                progress(line)
    finally:
        os.close(reader)
        child.kill_group()
        status, _ = child.wait()
        content = _read_back(captured)
    if check and status != 0:
        raise ProgramFailed(argv, status, "\n".join(tail), hint)
    return Completed(status, content)


def _lines(reader: int, child: Child) -> Iterator[str]:
    """The lines that a child writes until it has ended. Other processes that inherited the pipe and live longer are not waited
    for.
    """
    os.set_blocking(reader, False)
    events = select.poll()
    for descriptor in (reader, child.pidfd):
        events.register(descriptor, select.POLLIN)
    rest, reading, ended = b"", True, False
    while not ended:
        ended = child.pidfd in dict(events.poll())
        while chunk := _read_now(reader):
            *lines, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
            rest = rest[-_LINE_LIMIT:]
            yield from _printable(lines)
        if chunk is not None and reading:
            events.unregister(reader)
            reading = False
    yield from _printable([rest])


def _read_now(descriptor: int) -> bytes | None:
    """What can be read without blocking: empty at the end, None if there is nothing yet."""
    try:
        return os.read(descriptor, 65536)
    except BlockingIOError:
        return None


def _printable(lines: Iterable[bytes]) -> Iterator[str]:
    texts = (line[:_LINE_LIMIT].decode(errors="replace").rstrip() for line in lines)
    yield from (text for text in texts if text)


def _read_back(captured: int | None) -> bytes:
    if captured is None:
        return b""
    with os.fdopen(captured, "rb") as file:
        file.seek(0)
        return file.read(_CAPTURE_LIMIT)
