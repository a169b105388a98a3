"""The controls that a frontend has: of a job while it runs, and of what follows it in the same machine."""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own costs an import at every start, and checkers know the name
if TYPE_CHECKING:
    import signal

    from dayfly.guest.protocol import WindowSize


class Control:
    """Each method does nothing unless a subclass overrides it."""

    is_started = False
    """Whether the job runs, or has run."""
    is_over = False
    """Whether it is known how the job ended; some of its output may still wait to be written."""

    def deliver_signal(self, number: signal.Signals) -> None:
        """A signal for the job was received."""

    def resize(self, size: WindowSize) -> None:
        """The size of the job's terminal has changed."""

    async def pause(self) -> None:
        """Stop the machine. Raises `MachineFailed`."""

    async def resume(self) -> None:
        """Resume a paused machine. Raises `MachineFailed`."""

    def resumed(self) -> None:
        """The machine continues after a time in which nothing ran."""

    def fail(self, message: str, hint: str) -> None:
        """The machine failed to execute a command."""
