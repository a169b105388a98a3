"""Who is at the other end of a job: gives it input, takes its output, controls it. The command line's is `foreground`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

TYPE_CHECKING = False  # typing's own costs an import at every start, and checkers know the name
if TYPE_CHECKING:
    from dayfly.guest.frames import Stream
    from dayfly.job.control import Control


class Output(ABC):
    """Takes what a job writes to one stream, in order."""

    @abstractmethod
    def put(self, chunk: bytes) -> None:
        """Queue bytes to be written."""

    @abstractmethod
    def end(self) -> None:
        """Nothing more will come."""


class Input(ABC):
    """Gives a job its input, never more than the job was granted."""

    @abstractmethod
    def grant(self, size: int) -> None:
        """Let `size` bytes more be read."""

    @abstractmethod
    def close(self) -> None:
        """The job wants no more. What is still read is dropped."""

    @abstractmethod
    def leave_unread(self, used: int) -> None:
        """Close, after the job has read `used` bytes. What was read beyond that is given back where it can be."""


class Frontend(ABC):
    """Streams and control of one job."""

    has_stderr: bool
    """Whether the job's stderr is a stream of its own; at a terminal it is not."""

    @abstractmethod
    def attach(self, control: Control) -> None:
        """From now on, `control` may be told what to do."""

    @abstractmethod
    def started(self) -> None:
        """The job runs."""

    @abstractmethod
    def ended(self) -> None:
        """The job has ended, and all of its output is written."""

    @abstractmethod
    def detach(self) -> None:
        """The machine is gone: there is nothing left to control."""

    @abstractmethod
    def output(
        self, stream: Stream, written: Callable[[int], None], broken: Callable[[OSError], None], ended: Callable[[], None]
    ) -> Output:
        """Where a stream of the job's goes.

        `written` is called for the bytes that have been written, `broken` once when output is lost, `ended` when everything is
        written or can never be.
        """

    @abstractmethod
    def input(self, window: int, read: Callable[[bytes], None]) -> Input:
        """Where the job's input comes from.

        `read` is called with each piece, at most `window` bytes at first; an empty one is the end.
        """
