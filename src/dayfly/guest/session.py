"""The session with a guest's agent: its startup, and one command from its start to its end.

The protocol is docs/reference/guest-protocol.md, version 3. Everything from a guest is hostile: each frame is checked against the
state, and no more output is accepted than was granted.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from dayfly.errors import Refused
from dayfly.guest.frames import OUTPUT_WINDOW, Frame, FromGuest, ProtocolBroken, Stream, ToGuest
from dayfly.guest.protocol import (
    Exited,
    Failed,
    Hello,
    Stage,
    StartProblem,
    WindowSize,
    encode_clock,
    encode_grant,
    parse_exited,
    parse_failed,
    parse_grant,
    parse_hello,
    parse_stage,
)

_GRANT_STEP = 256 * 1024


class NotStarted(Refused):
    """The agent could not start the command. `exit_status` is as in a shell: 127 not found, 126 not executable, otherwise 125."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.text or "the agent could not start the job", _HINTS.get(failed.problem, ""))
        self.exit_status = _STATUS.get(failed.problem, 125)


_STATUS = {StartProblem.NOT_FOUND: 127, StartProblem.NOT_EXECUTABLE: 126}
_HINTS = {
    StartProblem.NOT_FOUND: "is it in the image, or in a shared folder?",
    StartProblem.DIRECTORY: "is the working directory shared? see --share and --workdir",
    StartProblem.SHARE: "the kernel of a whole disk may lack 9p: use --no-share",
    StartProblem.RESOURCES: "ask for more with --memory",
}


class Startup:
    """The agent's reports until it is ready for a command. `hello` is its first report."""

    def __init__(self, *, greeted: bool) -> None:
        """`greeted`: the agent has already sent HELLO, as in a restored machine, and does not do so again."""
        self.hello: Hello | None = None
        self._greeted = greeted

    def receive(self, frame: Frame) -> Hello | Stage | Failed:
        """The report in a frame. Raises `ProtocolBroken` for a frame that is not allowed now."""
        if frame.type is FromGuest.HELLO and not self._greeted:
            self._greeted, self.hello = True, parse_hello(frame.payload)
            return self.hello
        if frame.type is FromGuest.STAGE and self._greeted:
            return parse_stage(frame.payload)
        if frame.type is FromGuest.FAILED:
            return parse_failed(frame.payload)
        raise ProtocolBroken(f"the guest sent {frame.type.name} while it was starting")


class Link(ABC):
    """A connection to an agent that is ready for a command: a machine."""

    @abstractmethod
    def listen(self, on_frame: Callable[[Frame], None]) -> None:
        """Call `on_frame` with each frame of the command: those already received, and new ones."""

    @abstractmethod
    def start(self, request: bytes) -> None:
        """Send the START frame's payload."""

    @abstractmethod
    def send(self, kind: ToGuest, payload: bytes = b"", stream: int = 0) -> None:
        """Send a frame. It is dropped if it cannot be sent any more."""


class Receiver:
    """Receives the events of a command. Each method does nothing unless a subclass overrides it."""

    def started(self) -> None:
        """The command runs."""

    def output(self, stream: Stream, chunk: bytes) -> None:
        """It wrote output. `Session.consumed` allows more."""

    def output_ended(self, stream: Stream) -> None:
        """This stream has ended."""

    def input_granted(self, size: int) -> None:
        """It accepts so many more bytes of input."""

    def input_closed(self) -> None:
        """It reads no more."""

    def exited(self, exited: Exited) -> None:
        """It has ended."""

    def failed(self, error: NotStarted) -> None:
        """It could not be started."""


class Session:
    """One command in a guest, and its streams within their credit."""

    def __init__(self, link: Link, receiver: Receiver) -> None:
        self._link = link
        self._receiver = receiver
        self._owed = dict.fromkeys((Stream.STDOUT, Stream.STDERR), 0)
        self._credit = dict.fromkeys((Stream.STDOUT, Stream.STDERR), OUTPUT_WINDOW)
        self._open = {Stream.STDOUT, Stream.STDERR}
        self.is_started = False
        self._while_starting = {FromGuest.STARTED: self._started, FromGuest.FAILED: self._failed}
        self._while_running = {
            FromGuest.DATA: self._data,
            FromGuest.END: self._ended,
            FromGuest.GRANT: lambda frame: receiver.input_granted(parse_grant(frame.payload)),
            FromGuest.CLOSED: lambda _: receiver.input_closed(),
            FromGuest.EXITED: lambda frame: receiver.exited(parse_exited(frame.payload)),
            FromGuest.FAILED: self._failed,
        }

    def listen(self) -> None:
        """Receive the events of the command, started already or not. Raises `ProtocolBroken`."""
        self._link.listen(self._received)

    def start(self, request: bytes) -> None:
        """Start the command of the START payload `request`."""
        self._link.start(request)

    def consumed(self, stream: Stream, size: int) -> None:
        """So many bytes of output were delivered: the command may write as many more."""
        self._owed[stream] += size
        if self._owed[stream] >= _GRANT_STEP:
            self._link.send(ToGuest.GRANT, encode_grant(self._owed[stream]), stream)
            self._credit[stream] += self._owed[stream]
            self._owed[stream] = 0

    def refuse_output(self, stream: Stream) -> None:
        """This stream is not read any more: for the command it is like a pipe without a reader."""
        self._link.send(ToGuest.CLOSED, stream=stream)

    def write(self, chunk: bytes) -> None:
        """Send input to the command, within its grant; an empty chunk is the end of the input."""
        if chunk:
            self._link.send(ToGuest.DATA, chunk, Stream.STDIN)
        else:
            self._link.send(ToGuest.END, stream=Stream.STDIN)

    def signal(self, number: int) -> None:
        """Send the command a signal."""
        self._link.send(ToGuest.SIGNAL, bytes([number]))

    def resize(self, size: WindowSize) -> None:
        """Set the size of its terminal."""
        self._link.send(ToGuest.WINDOW, size.encode())

    def set_clock(self) -> None:
        """Set the guest's clock to the host's."""
        self._link.send(ToGuest.CLOCK, encode_clock(time.time_ns()))

    def done(self) -> None:
        """After the end: no other command follows, and the machine may power off."""
        self._link.send(ToGuest.DONE)

    def _received(self, frame: Frame) -> None:
        handler = (self._while_running if self.is_started else self._while_starting).get(frame.type)
        if handler is None:
            raise ProtocolBroken(f"the guest sent an unexpected {frame.type.name}")
        handler(frame)

    def _started(self, _: Frame) -> None:
        self.is_started = True
        self._receiver.started()

    def _failed(self, frame: Frame) -> None:
        self._receiver.failed(NotStarted(parse_failed(frame.payload)))

    def _data(self, frame: Frame) -> None:
        stream = Stream(frame.stream)
        if stream not in self._open:
            raise ProtocolBroken("the guest sent data for a stream that has ended")
        self._credit[stream] -= len(frame.payload)
        if self._credit[stream] < 0:
            raise ProtocolBroken("the guest sent more than it was granted")
        self._receiver.output(stream, frame.payload)

    def _ended(self, frame: Frame) -> None:
        stream = Stream(frame.stream)
        if stream in self._open:
            self._open.remove(stream)
            self._receiver.output_ended(stream)
