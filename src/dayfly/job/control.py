"""What a frontend controls: a job while it runs, and what follows it in the same machine."""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own costs an import at every start, and checkers know the name
if TYPE_CHECKING:
    import signal

    from dayfly.guest.protocol import WindowSize


class Control:
    """Each method does nothing unless a subclass says otherwise."""

    is_started = False
    """Whether there is a job that runs, or has run."""
    is_over = False
    """Whether it is known how the job ended; some of its output may still wait to be written."""

    def deliver_signal(self, number: signal.Signals) -> None:
        """Somebody sent a signal that is meant for the job."""

    def resize(self, size: WindowSize) -> None:
        """The job's terminal has another size."""

    async def pause(self) -> None:
        """Stop the machine. Raises `MachineFailed`."""

    async def resume(self) -> None:
        """Let a paused machine go on. Raises `MachineFailed`."""

    def resumed(self) -> None:
        """All goes on after a time in which nothing ran."""

    def fail(self, message: str, hint: str) -> None:
        """The machine does not do what it was told."""
