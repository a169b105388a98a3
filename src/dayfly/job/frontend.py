"""The frontend of a job: gives it input, takes its output, controls it. The command line's is `foreground`."""

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
        """The stream has ended."""


class Input(ABC):
    """Gives a job its input, never more than was granted."""

    @abstractmethod
    def grant(self, size: int) -> None:
        """Let `size` bytes more be read."""

    @abstractmethod
    def close(self) -> None:
        """The job reads no more. What is still read is dropped."""

    @abstractmethod
    def leave_unread(self, used: int) -> None:
        """Close, after the job has read `used` bytes. What was read beyond that is given back if possible."""


class Frontend(ABC):
    """Streams and control of one job."""

    has_stderr: bool
    """Whether the job's stderr is a stream of its own; at a terminal it is not."""

    @abstractmethod
    def attach(self, control: Control) -> None:
        """From now on, `control` may be used."""

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
        """The output for a stream of the job.

        `written` is called with the number of bytes written, `broken` once if output is lost, `ended` when everything is
        written or never can be.
        """

    @abstractmethod
    def input(self, window: int, read: Callable[[bytes], None]) -> Input:
        """The job's input.

        `read` is called with each chunk, at most `window` bytes at first; an empty one is the end.
        """
