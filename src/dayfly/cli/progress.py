"""Progress messages."""

from __future__ import annotations

import sys
import time

from dayfly.image.reference import Name
from dayfly.units import format_duration


class Progress:
    """Prints progress messages with the elapsed time to stderr."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def __call__(self, text: str) -> None:
        """Print the next step."""
        sys.stderr.write(f"[{time.monotonic() - self._begun:6.1f} s] {text}\n")

    def ready(self, name: Name) -> None:
        """Print that the image is ready."""
        self(f"{name} is ready after {format_duration(time.monotonic() - self._begun)}")

    def done(self, name: Name, digest: str) -> None:
        """The same, and print its digest to stdout."""
        self.ready(name)
        sys.stdout.write(f"{digest}\n")
