"""Symbolic links on the way to a folder: the machine gets them too, so that the paths that people write lead there as well."""

from __future__ import annotations

import os

from dayfly.guest.protocol import Link

_MOST = 40
"""Links that the kernel follows in one path (path_resolution(7))."""


def followed(path: str) -> tuple[str, tuple[Link, ...]]:
    """Where an absolute path leads, and each link on the way.

    What does not exist is taken as it stands, and so is a path of too many links.
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
            target = os.readlink(here)  # noqa: PTH115 (on the way to every job's start)
        except OSError:  # no link
            done = here
            continue
        seen += 1
        if seen > _MOST:
            return path, ()
        links[here] = target
        done = "" if target.startswith("/") else done
        rest += target.split("/")[::-1]
    return done or "/", tuple(Link(path, target) for path, target in links.items())
