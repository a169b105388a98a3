"""A note about a job that is given to the batch system by one of its commands, while the job runs."""

from __future__ import annotations

import os
import select
from collections.abc import Mapping, Sequence

from dayfly import process
from dayfly.errors import DayflyError

_PATIENCE = 5.0
"""The most seconds that the end of a job waits for its note."""


class Note:
    """At most one command, which runs when the job leaves CPU time. Failures are ignored."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._taking: process.Child | None = None

    def begin(self, command: Sequence[str]) -> None:
        """Start the command without waiting for it."""
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            # env finds the command in the environment's PATH.
            words = ["env", "nice", "-n", "19", *command]
            self._taking = process.spawn(words, stdout=nowhere, stderr=nowhere, env=self._environment)
        except (DayflyError, OSError):
            return
        finally:
            os.close(nowhere)

    def flush(self) -> None:
        """Wait, for some seconds at most, until the command has ended."""
        if self._taking is None:
            return
        poll = select.poll()
        poll.register(self._taking.pidfd, select.POLLIN)
        if not poll.poll(_PATIENCE * 1000):
            self._taking.kill()
        self._taking.wait()
        self._taking = None
