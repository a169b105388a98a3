"""The one exception tree: what went wrong, said to a person, with a hint of what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dayfly.values import dataclass


class DayflyError(Exception):
    """Something a user can be told in one line.

    `message` says what is wrong, `hint` (may be empty) what to do. Neither ends in a full stop.
    """

    exit_status = 125
    """What `dayfly` exits with: 125 for its own failures, as docker and podman do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


@dataclass(frozen=True)
class FieldError:
    """One thing wrong in a file: where, what, and what to do."""

    place: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class FileErrors(DayflyError):
    """Everything wrong with one file, reported at once."""

    def __init__(self, path: object, errors: Iterable[FieldError]) -> None:
        self.errors = tuple(errors)
        count = len(self.errors)
        lines = "".join(f"\n  {mistake}" for mistake in self.errors)
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
    """Input from outside that is malformed, too large, or reaches for what it may not."""


class NotFound(DayflyError):
    """A name (of an image, a record, a machine) that means nothing here."""


class Corrupt(DayflyError):
    """Stored data that is not what its name says it is."""


class NoSpace(DayflyError):
    """The host has no room for what was asked."""


class MachineFailed(DayflyError):
    """A machine did not come up, or died under its job."""


def in_words(error: DayflyError | OSError) -> str:
    """An error for people: the system's without their numbers."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
