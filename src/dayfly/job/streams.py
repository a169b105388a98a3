"""The job's standard streams on the host, byte for byte.

The descriptors are inherited and shared with other processes, so they must not be made non-blocking: each stream has a thread
that may block in it, while signals, the other streams and the exit status go on. The protocol's credit bounds what is under way.
"""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import threading
from collections.abc import Callable

from dayfly.machine.channel import INPUT_LIMIT


def _start(work: Callable[[], None], name: str) -> None:
    """Work in a thread that may outlive the job. No signal finds it there that the main thread blocks."""

    def undisturbed() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        work()

    threading.Thread(target=undisturbed, daemon=True, name=name).start()


class Outlet:
    """Writes what the job wrote to one of our descriptors, in order, however slow its reader is."""

    def __init__(
        self, descriptor: int, passed_on: Callable[[int], None], broken: Callable[[OSError], None], ended: Callable[[], None]
    ) -> None:
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
        """Nothing more will come: `ended` is called when everything is written, or can never be."""
        self._chunks.put(None)

    def _write_on(self) -> None:
        failed = False
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
                self._tell(self._passed_on, len(chunk))
        self._tell(self._ended)

    def _tell(self, function: Callable[..., None], *arguments: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)


class Inlet:
    """Reads one of our descriptors for the job, never more than the job was granted."""

    def __init__(self, descriptor: int, window: int, read: Callable[[bytes], None]) -> None:
        self._descriptor = descriptor
        self._read = read
        self._credit = window
        self._changed = threading.Condition()
        self._closed = False
        self._loop = asyncio.get_running_loop()
        _start(self._read_on, f"inlet-{descriptor}")

    def grant(self, size: int) -> None:
        """Let `size` bytes more be read."""
        with self._changed:
            self._credit += size
            self._changed.notify()

    def close(self) -> None:
        """The job wants no more. A read that is under way cannot be called back; what it brings is dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _read_on(self) -> None:
        """Read until the end, which is told as an empty chunk."""
        while (size := self._next_size()) > 0:
            try:
                chunk = os.read(self._descriptor, size)
            except OSError:  # a terminal that hung up, a folder as stdin: the job sees the end
                chunk = b""
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
