"""Failed templates: recorded for a while, so that not every job tries again.

FOLDER/NAME.failed    why, in one line
"""

from __future__ import annotations

import time
from pathlib import Path

from dayfly import disknames, files
from dayfly.errors import DayflyError
from dayfly.provision.templates.store import Store

SUFFIX = disknames.FAILED_SUFFIX
_SECONDS = 3600.0
_LIMIT = 4096


def note(store: Store, name: str, reason: str) -> None:
    """Record the reason. If the file cannot be written, nothing is recorded."""
    try:
        files.write(_path(store, name), reason.splitlines()[0].encode(), 0o600, durable=False)
    except (OSError, DayflyError):
        return


def noted(store: Store, name: str) -> str:
    """Why this template could not be made within the last hour (may be empty)."""
    path = _path(store, name)
    try:
        if time.time() - path.stat().st_mtime > _SECONDS:
            return ""
        return files.read(path, _LIMIT).decode(errors="replace")
    except (OSError, DayflyError):
        return ""


def forget(store: Store, name: str) -> None:
    """Remove the record, so that it is tried again."""
    _path(store, name).unlink(missing_ok=True)


def _path(store: Store, name: str) -> Path:
    return store.folder / (name + SUFFIX)
