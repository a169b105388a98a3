"""The file with a job's hosts (`PBS_NODEFILE`, `PE_HOSTFILE`), shared with the machine.

On the hot path of every job under these batch systems.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from dayfly.job.description import Folder, hides_image


def folder_of(variables: Mapping[bytes, bytes], name: bytes) -> tuple[Folder, ...]:
    """The folder of the file in a variable, read-only, if it exists on this host and the job can list it."""
    path = os.path.normpath(os.fsdecode(variables.get(name, b"")))
    folder = os.path.dirname(path)  # noqa: PTH120 (hot path of every job)
    if not path.startswith("/") or hides_image(folder):
        return ()
    there = os.path.isfile(path) and os.access(path, os.R_OK)  # noqa: PTH113
    return (Folder(folder, readonly=True),) if there and os.access(folder, os.R_OK | os.X_OK) else ()
