"""A running machine: from the spawned QEMU to an agent that accepts jobs, and to its end.

A `Machine` owns its QEMU process and our ends of its sockets. `destroy` (or leaving its `async with`) ends all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from enum import Enum
from types import TracebackType

from dayfly import process
from dayfly.errors import DayflyError, MachineFailed, Refused
from dayfly.guest.boot import BootMode
from dayfly.guest.frames import Decoder, Frame, ProtocolBroken, ToGuest, encode
from dayfly.guest.protocol import Failed, FailedStage, Hello, Stage, printable
from dayfly.guest.session import Link, Startup
from dayfly.machine.ends import Limits, crashed, why
from dayfly.machine.events import Event, Listener, Refusal
from dayfly.machine.failure import ExitInfo, Loss, Part, StartFailed
from dayfly.machine.qemu import Launched, Progress

TYPE_CHECKING = False  # typing's own costs an import at every start, and checkers know the name
if TYPE_CHECKING:
    from dayfly.machine.monitor import Monitor

CONSOLE_LIMIT = 1024 * 1024
"""The most bytes of the console in the log: a guest may write to it without end."""
_CONSOLE_TAIL = 8 * 1024
_END_SECONDS = 1.0
"""Seconds to wait for a QEMU whose sockets are closed to exit."""
_CLOSED_SECONDS = 3.0
"""Seconds to wait for a machine whose agent has closed its port to power off."""


class State(Enum):
    """The state of a machine."""

    STARTING = "starting"
    READY = "ready"
    RUNNING = "running"
    ENDED = "ended"


_BEGINS = {Progress.SPAWNED: State.STARTING, Progress.RESTORED: State.READY, Progress.STARTED: State.RUNNING}


class StateError(DayflyError):
    """A call that the machine's state does not allow: a bug in Dayfly, not a user's error."""

    def __init__(self, call: str, actual: State, required: State) -> None:
        super().__init__(f"{call} needs a machine that is {required.value}, this one is {actual.value}")


class _Console(asyncio.Protocol):
    """Stores the console: up to a limit in the log, and its last lines for messages."""

    def __init__(self, log: int | None, lost: Callable[[], None]) -> None:
        self._log = log
        self._lost = lost
        self._room = CONSOLE_LIMIT
        self._tail = b""

    def data_received(self, data: bytes) -> None:
        self._tail = (self._tail + data)[-_CONSOLE_TAIL:]
        if self._log is None or self._room <= 0:
            return
        kept = data[: self._room]
        self._room -= len(kept)
        if self._room <= 0:
            kept += b"\n[dayfly: the rest of the console is not kept]\n"
        try:
            os.write(self._log, kept)
        except OSError:  # a full disk must not end the job, only the log
            self._log = None

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        self._lost()

    def tail(self) -> str:
        lines = (printable(line.replace(b"\t", b" ").strip(b"\r")) for line in self._tail.split(b"\n"))
        return "\n".join(line for line in lines if line.strip())


class _Events(asyncio.Protocol):
    """Passes on QEMU's events."""

    def __init__(self, listener: Listener, told: Callable[[Event], None], lost: Callable[[], None]) -> None:
        self._listener = listener
        self._told = told
        self._lost = lost

    def data_received(self, data: bytes) -> None:
        with contextlib.suppress(Refused):  # invalid messages are ignored; the end of QEMU is seen by its process
            for message in self._listener.feed(data):
                if not isinstance(message, Refusal):
                    self._told(message)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        self._lost()


class _Channel(asyncio.Protocol):
    """Splits the channel's bytes into frames, and reports if the guest broke the protocol or the channel ended."""

    def __init__(
        self, frame: Callable[[Frame], None], broken: Callable[[ProtocolBroken], None], lost: Callable[[], None]
    ) -> None:
        self._decoder = Decoder()
        self._frame = frame
        self._broken = broken
        self._lost = lost

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._decoder.feed(data):
                self._frame(frame)
        except ProtocolBroken as error:
            self._broken(error)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        self._lost()


class Machine(Link):
    """One machine. Made from a spawned QEMU, inside a running event loop, and used as `async with`."""

    def __init__(self, launched: Launched, console_log: int | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.config = launched.config
        self.state = _BEGINS[launched.progress]
        self.times: dict[str, float] = dict(launched.times)
        """When each phase was reached, on the monotonic clock in seconds."""
        self._early: list[Frame] = []
        self._on_frame: Callable[[Frame], None] = self._early.append  # a clone that has its job may answer before `listen`
        self.on_event: Callable[[Event], None] = _ignore
        """Called with QEMU's events."""
        self.broken: ProtocolBroken | None = None
        """How the guest broke the protocol; the machine is ended for it."""
        self._launched = launched
        self._console = _Console(console_log, self._lost_one)
        self._monitor: asyncio.Task[Monitor] | None = None
        self._startup = Startup(greeted=self.state is not State.STARTING)
        self._ready: asyncio.Future[None] = loop.create_future()
        if self.state is not State.STARTING:
            self._ready.set_result(None)
        self._ended = asyncio.Event()
        self._still_open = 4  # QEMU, its channel, its console, its events: all are read to their end
        self._channel: asyncio.Transport | None = None
        self._reason = ""
        self._may_stop = False
        self._halted = ""
        self._stopping: asyncio.Task[None] | None = None
        self._closed_port: asyncio.TimerHandle | None = None
        self._status, self._cpu = 0, 0.0
        self._reaped = False
        self._complaints = ""
        self._closed = False

    @property
    def pid(self) -> int:
        """QEMU's process id."""
        return self._launched.child.pid

    @property
    def qemu_version(self) -> str:
        """From QEMU's greeting; empty before that."""
        return self._launched.listener.version

    @property
    def console_tail(self) -> str:
        """The last lines of the console."""
        return self._console.tail()

    async def __aenter__(self) -> Machine:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._launched.child.pidfd, self._qemu_ended)
        channel = _Channel(self._received, self.broke, self._lost_one)
        self._channel, _ = await loop.connect_accepted_socket(lambda: channel, self._launched.channel)
        self._channel.write(self._launched.unsent)
        await loop.connect_read_pipe(lambda: self._console, os.fdopen(self._launched.console, "rb", buffering=0))
        events = _Events(self._launched.listener, self._told, self._lost_one)
        await loop.connect_accepted_socket(lambda: events, self._launched.events)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.destroy()

    async def ready(self, timeout: float) -> None:
        """Wait until jobs can start, at most `timeout` seconds. Raises `StartFailed`, with the part that failed."""
        try:
            async with asyncio.timeout(timeout):
                await self._ready
        except TimeoutError:
            raise self._not_up(f"did not come up within {timeout:g} s") from None

    def listen(self, on_frame: Callable[[Frame], None]) -> None:
        """Call `on_frame` with each frame of the job: those already received, and new ones. Raises what `on_frame` raises."""
        self._on_frame = on_frame
        early, self._early = self._early, []
        for frame in early:
            on_frame(frame)

    def start(self, request: bytes) -> None:
        """Send the START frame's payload. Raises `StateError` if the machine is not ready for it."""
        if self.state is not State.READY:
            raise self._wrong("start", State.READY)
        self.state = State.RUNNING
        self.send(ToGuest.START, request)

    def send(self, kind: ToGuest, payload: bytes = b"", stream: int = 0) -> None:
        """Send a frame. It is dropped if the machine has ended: `wait` reports the end."""
        if self._channel is not None and not self._channel.is_closing():
            self._channel.write(encode(kind, payload, stream))

    async def again(self, timeout: float | None = None) -> None:
        """After EXITED or FAILED: reset the agent and wait until it is ready for the next job, at most `timeout` seconds.

        Raises `StartFailed`, `StateError`.
        """
        if self.state is not State.RUNNING:
            raise self._not_up("ended during its first job") if self.state is State.ENDED else self._wrong("again", State.RUNNING)
        self.state = State.STARTING
        self._on_frame = _ignore
        self._ready = asyncio.get_running_loop().create_future()
        self.send(ToGuest.AGAIN)
        try:
            async with asyncio.timeout(timeout):
                await self._ready
        except TimeoutError:
            raise self._not_up(f"was not ready for another job within {timeout:g} s") from None

    async def save(self, state: int) -> None:
        """Write the machine's state, except for its memory, to the open file `state`. The machine stays stopped afterwards.

        Raises `MachineFailed` if QEMU fails.
        """
        self._may_stop = True
        saving = asyncio.ensure_future(self._save(state))
        ended = asyncio.ensure_future(self._ended.wait())
        await asyncio.wait({saving, ended}, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if not saving.done():
            saving.cancel()
            raise MachineFailed("QEMU ended while it saved the machine")
        saving.result()

    async def pause(self) -> None:
        """Stop the machine's CPUs. Raises `MachineFailed` if QEMU fails."""
        self._may_stop = True
        await (await self._commands()).stop()

    async def resume(self) -> None:
        """Resume the machine's CPUs. Raises `MachineFailed` if QEMU fails."""
        await (await self._commands()).cont()
        self._may_stop = False

    async def killed(self) -> StartFailed | None:
        """After a failure: the error, if the reason is that QEMU was killed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                await self._ended.wait()
        return self._not_up("ended") if self.state is State.ENDED and self._status < 0 else None

    async def wait(self) -> None:
        """Wait until QEMU has ended and everything that it wrote has been read."""
        await self._ended.wait()

    async def destroy(self) -> ExitInfo:
        """End the machine at once, in any state, and wait until it is gone. Can be called again."""
        if self.state is not State.ENDED:
            self._kill()
            await self._ended.wait()
        if not self._closed:
            self._closed = True
            self._complaints = self._launched.complaints()
            os.close(self._launched.stderr)
            if self._monitor is None:
                self._launched.monitor.close()
            else:  # a caller may still wait for QEMU's greeting, and gets its error first
                with contextlib.suppress(MachineFailed):
                    await (await self._monitor).close()
        return ExitInfo(self._status, self._cpu)

    def loss(self, limits: Limits) -> Loss:
        """Why the destroyed machine ended before its job. `limits` are the caller's."""
        if self.broken is not None:
            return Loss("protocol", f"{self.broken.message}; the machine was ended")
        console = self.console_tail.splitlines()
        panic = [at for at, line in enumerate(console) if "Kernel panic" in line]
        if panic:
            said = "".join(f"\n  | {line}" for line in console[panic[-1] :][:12])
            return Loss("guest-panic", f"the guest's kernel panicked{said}")
        if self._halted:
            return Loss("machine-halted", f"the machine stopped before the job ended: {self._halted}")
        if self._status >= 0 and self._reason.startswith("guest-"):
            return Loss("guest-shutdown", "the machine was powered off from inside before the job ended")
        message, hint = why(self._status, self._complaints, self._cpu, limits)
        killed = self._status < 0 and not crashed(self._status)
        return Loss("machine-killed" if killed else "machine-failed", message, hint)

    async def _save(self, state: int) -> None:
        await (await self._commands()).save(state)

    async def _commands(self) -> Monitor:
        """The monitor, connected on first use: most jobs never need it. Raises `MachineFailed`."""
        if self._monitor is None:
            self._monitor = asyncio.get_running_loop().create_task(self._connected())
        return await asyncio.shield(self._monitor)

    async def _connected(self) -> Monitor:
        from dayfly.machine.monitor import Monitor  # noqa: PLC0415 (qemu.qmp, which most jobs do not need)

        monitor = Monitor()
        await monitor.connect(self._launched.monitor)
        return monitor

    def _wrong(self, call: str, required: State) -> StateError:
        return StateError(call, self.state, required)

    def _received(self, frame: Frame) -> None:
        if self.state is State.RUNNING:
            self._on_frame(frame)
        elif self.state is State.STARTING:
            self._starting(frame)
        elif self.state is State.READY:
            self.broke(ProtocolBroken(f"the guest sent {frame.type.name} without a job"))

    def _starting(self, frame: Frame) -> None:
        """Handle the frames of a machine that is starting."""
        now = time.monotonic()
        try:
            said = self._startup.receive(frame)
        except ProtocolBroken as error:
            self.broke(error)
            return
        if isinstance(said, Failed):
            self._settle(self._reported(said))
        elif isinstance(said, Hello):
            self.times["hello"] = now
        else:
            if "exited" not in self.times:  # otherwise it is ready for another job, and the times are those of the last one
                self.times[said.name.lower()] = now
            if said is Stage.READY:
                self.state = State.READY
                self._settle(None)

    def _told(self, event: Event) -> None:
        if event.name == "SHUTDOWN":
            self._reason = event.detail
        if event.name in ("STOP", "SUSPEND") and not self._may_stop:
            self._stopping = self._stopping or asyncio.get_running_loop().create_task(self._stopped())
        if event.name == "VSERPORT_CHANGE" and self.state in (State.READY, State.RUNNING):
            self._port_changed(is_open=event.detail == "open")
        self.on_event(event)

    def _port_changed(self, *, is_open: bool) -> None:
        """A kernel that halts the machine resets its devices, and then sends nothing any more; nor does QEMU."""
        if self._closed_port is not None:
            self._closed_port.cancel()
        why = "the agent has closed its port: the machine was halted from inside, or the agent was killed"
        self._closed_port = None if is_open else asyncio.get_running_loop().call_later(_CLOSED_SECONDS, self._stands_still, why)

    async def _stopped(self) -> None:
        """QEMU has stopped the machine without a request: it would never continue."""
        try:
            status = await (await self._commands()).status()
        except MachineFailed as error:
            status = error.message
        self._stands_still(f"QEMU stopped it: {status}")

    def _stands_still(self, why: str) -> None:
        """End a machine that will never continue."""
        self._halted = self._halted or why
        self._kill()

    def broke(self, error: ProtocolBroken) -> None:
        """End a guest that breaks the protocol."""
        self.broken = self.broken or error
        self._on_frame = _ignore
        self._kill()

    def _kill(self) -> None:
        if not self._reaped:  # otherwise its descriptor is closed, and the number may belong to another file
            self._launched.child.kill()

    def _qemu_ended(self) -> None:
        if self._closed_port is not None:
            self._closed_port.cancel()
        asyncio.get_running_loop().remove_reader(self._launched.child.pidfd)
        self._status, self._cpu = self._launched.child.wait()
        self._reaped = True
        self._lost_one()

    def _lost_one(self) -> None:
        self._still_open -= 1
        if self._still_open == 0:
            starting = self.state is State.STARTING
            self.state = State.ENDED
            self._ended.set()
            if starting:
                self._settle(self._not_up("ended before it was up"))

    def _settle(self, failure: StartFailed | None) -> None:
        """Complete `ready`: with success, or with the reason why the machine will never be ready."""
        if self._ready.done():
            return
        if failure is None:
            self._ready.set_result(None)
        else:
            self._ready.set_exception(failure)
            self._ready.exception()  # it need not be awaited

    def _not_up(self, what: str) -> StartFailed:
        """The error for the part that failed to start, by how far the start has progressed."""
        tail = self.console_tail
        if self.broken is not None:
            return StartFailed(Part.AGENT, self.broken.message, tail, "the image's agent or kernel is not Dayfly's")
        if self._halted:
            return StartFailed(Part.KERNEL, f"the machine stopped before it was up: {self._halted}", tail)
        if self.state is State.ENDED and self._status < 0:
            message, hint = why(self._status, self._launched.complaints(), self._cpu, process.limits())
            return StartFailed(Part.QEMU, f"the machine did not come up: {message}", "", hint)
        if self.config.boot.by_firmware and (tail or self.state is not State.ENDED):
            hint = "its cloud-init must start the agent within machine.boot_timeout of the settings"
            part = Part.AGENT if self._startup.hello else Part.KERNEL  # before cloud-init, the part is not known
            return StartFailed(part, f"the disk's own system {what}", tail, hint)
        if "root" in self.times and self.config.boot is BootMode.SYSTEM:
            return StartFailed(Part.AGENT, f"the image's own system {what}", tail, "try --boot agent, which does not need it")
        if "root" in self.times:
            return StartFailed(Part.AGENT, f"{Part.AGENT} {what}", tail)
        if self._startup.hello is not None:
            return StartFailed(Part.ROOT, f"{Part.ROOT} {what}", tail)
        if tail or self.state is not State.ENDED:
            return StartFailed(Part.KERNEL, f"{Part.KERNEL} {what}", tail)
        message, hint = why(self._status, self._launched.complaints(), self._cpu, process.limits())
        return StartFailed(Part.QEMU, f"the machine did not come up: {message}", "", hint)

    def _reported(self, failed: Failed) -> StartFailed:
        part = {FailedStage.MODULES: Part.KERNEL, FailedStage.ROOT: Part.ROOT}.get(failed.stage, Part.AGENT)
        return StartFailed(part, f"{part} did not come up: {failed.text}", self.console_tail)


def _ignore(_: object) -> None:
    """Ignore a frame."""
