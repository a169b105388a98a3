"""The folder that a job of PBS or Torque was submitted from; most scripts begin with `cd $PBS_O_WORKDIR`.

On the hot path of every job under these batch systems.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from dayfly.job.description import Folder, hides_image


def submitted_from(variables: Mapping[bytes, bytes]) -> tuple[Folder, ...]:
    """That folder, if it exists on this host, belongs to the job's user, and is not writable by others.

    So a job that was submitted from `/tmp` has the `/tmp` of its image. If the path leads through a link that the machine
    sees, the link's target is shared.
    """
    path = os.path.normpath(os.fsdecode(variables.get(b"PBS_O_WORKDIR", b"")))
    if path.startswith(os.getcwd() + "/"):  # noqa: PTH109 (hot path of every job)
        path = os.path.realpath(path)
    try:
        status = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return ()
    own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & stat.S_IWOTH
    return (Folder(path),) if own and path.startswith("/") and not hides_image(path) else ()
