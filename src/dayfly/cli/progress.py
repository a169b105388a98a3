"""What is being done, told while it is."""

from __future__ import annotations

import sys
import time

from dayfly.image.reference import Name
from dayfly.units import format_duration


class Progress:
    """Tells on stderr what is being done, and after how long."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def __call__(self, text: str) -> None:
        """This is done next."""
        sys.stderr.write(f"[{time.monotonic() - self._begun:6.1f} s] {text}\n")

    def ready(self, name: Name) -> None:
        """There is the image now."""
        self(f"{name} is ready after {format_duration(time.monotonic() - self._begun)}")

    def done(self, name: Name, digest: str) -> None:
        """Likewise, and its digest goes to stdout."""
        self.ready(name)
        sys.stdout.write(f"{digest}\n")
