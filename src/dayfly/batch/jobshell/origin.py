"""The folder that a job of PBS or Torque was submitted from, where most scripts go first: `cd $PBS_O_WORKDIR`.

On the way to every job's start under these batch systems.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from dayfly.job.description import Folder, hides_image


def submitted_from(variables: Mapping[bytes, bytes]) -> tuple[Folder, ...]:
    """That folder, where this host has it and it is the job's user's own, and nobody else may write everywhere in it.

    So a job that was submitted from `/tmp` keeps the `/tmp` of its image. Through a link that the machine sees, the job comes to
    where the link leads: so that is what is shared then.
    """
    path = os.path.normpath(os.fsdecode(variables.get(b"PBS_O_WORKDIR", b"")))
    if path.startswith(os.getcwd() + "/"):  # noqa: PTH109 (on the way to every job's start)
        path = os.path.realpath(path)
    try:
        status = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return ()
    own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & stat.S_IWOTH
    return (Folder(path),) if own and path.startswith("/") and not hides_image(path) else ()
