"""The exception tree: each error has a message for the user, and a hint what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dayfly.values import dataclass


class DayflyError(Exception):
    """An error that can be reported to a user in one line.

    `message` says what is wrong, `hint` (may be empty) what to do. Neither ends in a full stop.
    """

    exit_status = 125
    """The exit status of `dayfly`: 125 for its own failures, as with docker and podman."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


@dataclass(frozen=True)
class FieldError:
    """One error in a file: where, what, and what to do."""

    place: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class FileErrors(DayflyError):
    """All errors in one file, reported at once."""

    def __init__(self, path: object, errors: Iterable[FieldError]) -> None:
        self.errors = tuple(errors)
        count = len(self.errors)
        lines = "".join(f"\n  {error}" for error in self.errors)
        super().__init__(f"{path}: {count} error{'' if count == 1 else 's'}{lines}")


class ProgramFailed(DayflyError):
    """An external program failed: its command, its exit status and the last lines it wrote."""

    def __init__(self, command: Sequence[str], status: int, tail: str, hint: str = "") -> None:
        self.command = tuple(command)
        self.status = status
        self.tail = tail
        how = f"died of signal {-status}" if status < 0 else f"exited with {status}"
        lines = "".join(f"\n  | {line}" for line in tail.splitlines())
        super().__init__(f"{self.command[0]} {how}: {' '.join(self.command)}{lines}", hint)


class ProgramMissing(DayflyError):
    """An external program that Dayfly needs is not installed."""

    def __init__(self, program: str, package: str = "") -> None:
        self.program = program
        super().__init__(f"{program} is not installed", f"install the package {package or program}")


class Refused(DayflyError):
    """Input from outside that is malformed, too large, or not permitted."""


class NotFound(DayflyError):
    """A name (of an image, a record, a machine) that does not exist here."""


class Corrupt(DayflyError):
    """Stored data that does not match its digest."""


class NoSpace(DayflyError):
    """The host has no space left."""


class MachineFailed(DayflyError):
    """A machine failed to start, or ended before its job."""


def in_words(error: DayflyError | OSError) -> str:
    """An error as a message: system errors without their numbers."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
