"""Symbolic links in the paths of folders: the machine gets them too, so that the same paths work there."""

from __future__ import annotations

import os

from dayfly.guest.protocol import Link

_MOST = 40
"""The kernel's limit on links in one path (path_resolution(7))."""


def followed(path: str) -> tuple[str, tuple[Link, ...]]:
    """The real path of an absolute path, and each link on the way.

    Parts that do not exist stay unchanged, and so does a path with too many links.
    """
    done, rest = "", path.split("/")[::-1]
    links: dict[str, str] = {}
    seen = 0
    while rest:
        part = rest.pop()
        if part == "..":
            done = done.rpartition("/")[0]
        if part in ("", ".", ".."):
            continue
        here = f"{done}/{part}"
        try:
            target = os.readlink(here)  # noqa: PTH115 (hot path of every job)
        except OSError:  # not a link
            done = here
            continue
        seen += 1
        if seen > _MOST:
            return path, ()
        links[here] = target
        done = "" if target.startswith("/") else done
        rest += target.split("/")[::-1]
    return done or "/", tuple(Link(path, target) for path, target in links.items())
