"""Several jobs in one process and one event loop, each with streams and signals of its own."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable

from dayfly import principal
from dayfly.guest.frames import Stream
from dayfly.image.library import OpenImage
from dayfly.image.search import Libraries
from dayfly.job.control import Control
from dayfly.job.description import JobDescription
from dayfly.job.frontend import Frontend, Input, Output
from dayfly.job.prepare import plan_of, prepare
from dayfly.job.result import JobResult
from dayfly.job.supervise import Audience, supervise
from dayfly.machine.config import Shape
from dayfly.provision import probe
from dayfly.provision.cold import start_cold
from dayfly.provision.templates.lookup import Origin
from dayfly.settings import Settings
from tests.framework.site import IMAGE, Site
from tests.machine.test_steps import loaded


class Kept(Output):
    """Keeps what was written, in memory."""

    def __init__(self, into: bytearray, written: Callable[[int], None], ended: Callable[[], None]) -> None:
        self._into = into
        self._written = written
        self._ended = ended

    def put(self, chunk: bytes) -> None:
        self._into.extend(chunk)
        self._written(len(chunk))

    def end(self) -> None:
        self._ended()


class Given(Input):
    """Gives some bytes."""

    def __init__(self, content: bytes, read: Callable[[bytes], None]) -> None:
        read(content)
        read(b"")

    def grant(self, size: int) -> None:
        """It is all given."""

    def close(self) -> None:
        """As `grant`."""

    def leave_unread(self, used: int) -> None:
        """There is nobody to leave it to."""


class InMemory(Frontend):
    """Input from bytes, output into bytes; `control` is the job's once it runs."""

    has_stderr = True

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.written = {Stream.STDOUT: bytearray(), Stream.STDERR: bytearray()}
        self.control = Control()
        self.running = asyncio.Event()

    def attach(self, control: Control) -> None:
        self.control = control

    def started(self) -> None:
        self.running.set()

    def ended(self) -> None:
        """Nothing to give back."""

    def detach(self) -> None:
        self.control = Control()

    def output(
        self, stream: Stream, written: Callable[[int], None], broken: Callable[[OSError], None], ended: Callable[[], None]
    ) -> Output:
        return Kept(self.written[stream], written, ended)

    def input(self, window: int, read: Callable[[bytes], None]) -> Input:
        return Given(self._content, read)


def described(site: Site, *command: str) -> JobDescription:
    return JobDescription(
        image=IMAGE,
        command=command,
        shape=Shape(1, 256 << 20),
        scratch=1 << 30,
        directory=str(site.work),
        environment=(b"PATH=/usr/bin:/bin",),
        terminal=False,
    )


async def run(job: JobDescription, image: OpenImage, settings: Settings, frontend: Frontend) -> JobResult:
    prepared = prepare(job, principal.current(), image, time.monotonic(), print)
    trial = probe.begin(settings, None, print)
    launched = start_cold(plan_of(prepared, trial.way), settings)
    return await supervise(prepared, settings, launched, Origin(cold_reason="a test"), trial, frontend, Audience(print))


def test_two_jobs_in_one_event_loop(site: Site) -> None:
    settings = loaded(site)
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    async def both() -> tuple[JobResult, JobResult, InMemory, InMemory]:
        first, second = InMemory(b"of the first\n"), InMemory(b"of the second\n")
        with Libraries(settings).open(IMAGE) as one, Libraries(settings).open(IMAGE) as other:
            script = "cat; echo to stderr >&2; sleep 600"
            ended = asyncio.gather(
                run(described(site, "sh", "-c", script), one, settings, first),
                run(described(site, "sh", "-c", "cat; exit 7"), other, settings, second),
            )
            await first.running.wait()
            first.control.deliver_signal(signal.SIGTERM)
            return (*await ended, first, second)

    one, other, first, second = asyncio.run(both())
    assert (one.status, other.status) == (128 + signal.SIGTERM, 7)
    assert bytes(second.written[Stream.STDOUT]) == b"of the second\n"
    assert bytes(first.written[Stream.STDOUT]) in (b"", b"of the first\n")  # TERM may have been first
    assert one.record.end is not None
    assert one.record.end.reason == "cancelled"
    assert one.record.id != other.record.id
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
