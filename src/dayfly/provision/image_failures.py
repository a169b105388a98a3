"""Images that fail repeatedly: recorded on each node for each user, so that not every job of an array waits for the same failure.

CACHE/failing/HOST-DIGEST    the number of consecutive failed starts of the image on this host, and the last reason
"""

from __future__ import annotations

import os
import time

from dayfly import disknames
from dayfly.errors import Refused
from dayfly.settings import Settings

OFTEN = 3
_SECONDS = 600.0
_LIMIT = 4096


class Failing(Refused):
    """The image failed so often that it is not tried for a while."""


def check(settings: Settings, digest: str) -> None:
    """Raises `Failing` for an image that failed `OFTEN` times in a row, the last time within ten minutes."""
    try:
        with open(_path(settings, digest), encoding="utf-8", errors="replace") as file:  # noqa: PTH123 (a job's hot path)
            recent = time.time() - os.fstat(file.fileno()).st_mtime < _SECONDS
            count, _, reason = file.read(_LIMIT).partition("\n")
    except OSError:
        return
    if recent and count.isdecimal() and len(count) < 6 and int(count) >= OFTEN:
        raise Failing(
            f"the last {count} machines of this image failed to start on this host: {reason}",
            "it is tried again ten minutes after the last failure; `dayfly run` tries it at once",
        )


def note(settings: Settings, digest: str, reason: str) -> None:
    """Count one more failure. If the file cannot be written, nothing is recorded."""
    path = _path(settings, digest)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
        with open(path, "a+", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            file.seek(0)
            before = file.readline(8).strip()
            file.truncate(0)
            file.write(f"{int(before) + 1 if before.isdecimal() else 1}\n{' '.join(reason.split())[:1024]}")
    except OSError:
        return


def forget(settings: Settings, digest: str) -> None:
    """Reset the count: a machine of the image came up."""
    try:
        os.unlink(_path(settings, digest))  # noqa: PTH108
    except OSError:
        return


def _path(settings: Settings, digest: str) -> str:
    return f"{settings.cache_folder}/{disknames.IMAGE_FAILURES}/{os.uname().nodename}-{digest.removeprefix('sha256:')[:16]}"
