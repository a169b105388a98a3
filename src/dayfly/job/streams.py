"""The job's standard streams on the host, byte for byte.

The descriptors are inherited and shared with other processes, so they must not be made non-blocking: each stream has a thread
that may block in it, while signals, the other streams and the exit status are handled. The protocol's credit limits the data in
transit.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import queue
import select
import signal
import stat
import threading
from collections.abc import Callable, Iterator

from dayfly.guest.frames import INPUT_LIMIT
from dayfly.job.frontend import Input, Output
from dayfly.job.terminal import in_foreground


def _start(work: Callable[[], None], name: str) -> None:
    """Work in a thread that may outlive the job. Signals that the main thread blocks are not delivered to it."""

    def undisturbed() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        work()

    threading.Thread(target=undisturbed, daemon=True, name=name).start()


class Outlet(Output):
    """Writes the job's output to one of our descriptors, in order, however slow its reader is."""

    def __init__(
        self, descriptor: int, passed_on: Callable[[int], None], broken: Callable[[OSError], None], ended: Callable[[], None]
    ) -> None:
        """`broken` is called once if output is lost: a write or the flush at the end failed."""
        self._descriptor = descriptor
        self._passed_on = passed_on
        self._broken = broken
        self._ended = ended
        self._chunks: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        _start(self._write_on, f"outlet-{descriptor}")

    def put(self, chunk: bytes) -> None:
        """Queue bytes to be written."""
        self._chunks.put(chunk)

    def end(self) -> None:
        """The stream has ended: `ended` is called when everything is written, or never can be."""
        self._chunks.put(None)

    def _write_on(self) -> None:
        written, failed = 0, False
        while (chunk := self._chunks.get()) is not None:
            if failed:
                continue
            try:
                view = memoryview(chunk)
                while view:
                    view = view[os.write(self._descriptor, view) :]
            except OSError as error:
                failed = True
                self._tell(self._broken, error)
            else:
                written += len(chunk)
                self._tell(self._passed_on, len(chunk))
        if written and not failed:
            self._flush()
        self._tell(self._ended)

    def _flush(self) -> None:
        """Get the errors that a network filesystem reports only at close (close(2), "Dealing with error returns")."""
        try:
            os.close(os.dup(self._descriptor))
        except OSError as error:
            self._tell(self._broken, error)

    def _tell(self, function: Callable[..., None], *arguments: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)


class Inlet(Input):
    """Reads one of our descriptors for the job, never more than was granted."""

    def __init__(
        self, descriptor: int, window: int, read: Callable[[bytes], None], at_terminal: Callable[[], None] = lambda: None
    ) -> None:
        """`at_terminal` is called before each chunk that is read from a terminal; we are in its foreground then."""
        self._descriptor = descriptor
        self._read = read
        self._at_terminal = at_terminal
        self._terminal = _Terminal(descriptor) if os.isatty(descriptor) else None
        self._seekable = _is_seekable(descriptor)
        self._credit = window
        self._changed = threading.Condition()
        self._reading = threading.Lock()  # for a file, whose read returns: held until it is counted
        self._taken = 0
        self._closed = False
        self._loop = asyncio.get_running_loop()
        _start(self._read_on, f"inlet-{descriptor}")

    def grant(self, size: int) -> None:
        """Let `size` bytes more be read."""
        with self._changed:
            self._credit += size
            self._changed.notify()

    def close(self) -> None:
        """The job reads no more. A read in progress cannot be cancelled; its data is dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def look_again(self) -> None:
        """We may be in the terminal's foreground now."""
        if self._terminal is not None:
            self._terminal.look_again()

    def leave_unread(self, used: int) -> None:
        """Close, and set a file's offset to where the job has read to, after `used` bytes: the next reader gets the rest."""
        self.close()
        if self._seekable:
            with self._reading, contextlib.suppress(OSError):
                os.lseek(self._descriptor, min(0, used - self._taken), os.SEEK_CUR)

    def _read_on(self) -> None:
        """Read until the end, which is reported as an empty chunk."""
        while (size := self._next_size()) > 0:
            chunk = self._next_chunk(size)
            with self._changed:
                self._credit -= len(chunk)
                if self._closed:
                    return
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._read, chunk)
            if not chunk:
                return

    def _next_size(self) -> int:
        with self._changed:
            self._changed.wait_for(lambda: self._credit > 0 or self._closed)
            return 0 if self._closed else min(self._credit, INPUT_LIMIT)

    def _next_chunk(self, size: int) -> bytes:
        while True:
            if self._terminal is not None:
                self._terminal.wait_for_foreground()
                if not self._loop.is_closed():
                    self._loop.call_soon_threadsafe(self._at_terminal)
            try:
                with self._held():
                    chunk = os.read(self._descriptor, size)
                    self._taken += len(chunk)
            except OSError as error:
                if error.errno == errno.EIO and self._terminal is not None and not in_foreground(self._descriptor):
                    continue  # the process is in the background now
                return b""  # the terminal hung up, or it is not open for reading: end of input for the job
            return chunk

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        if not self._seekable:
            yield
            return
        with self._reading:
            if self._closed:
                raise OSError(errno.ECANCELED, "nobody reads any more")
            yield


class _Terminal:
    """A terminal as stdin. Nothing is read in its background: that would stop us, although the job may not read at all."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def look_again(self) -> None:
        os.eventfd_write(self._wake, 1)

    def wait_for_foreground(self) -> None:
        """Checks when something is typed: a shell does not notify a running job that it brings to the foreground."""
        if in_foreground(self._descriptor):
            return
        with select.epoll() as events:
            events.register(self._descriptor, select.EPOLLIN | select.EPOLLET)
            events.register(self._wake, select.EPOLLIN | select.EPOLLET)
            while not in_foreground(self._descriptor):
                events.poll()


def _is_seekable(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)
