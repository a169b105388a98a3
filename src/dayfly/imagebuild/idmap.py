"""A user namespace in which chosen ids exist: files may belong to any of 2³² users, and we have a range of 65536."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from dayfly import process
from dayfly.errors import Refused
from dayfly.process import Child

_EXTENTS = 128
"""The kernel takes 340 lines in a map, and no more than 4 KiB of them (user_namespaces(7))."""

Extent = tuple[int, int, int]
"""The first id in the namespace, the first outside of it, and how many follow each other."""


@dataclass(frozen=True)
class Owned:
    """The ids that we may use outside: a range from `start` on; `own` is what 0 becomes, None where that is the first of it."""

    own: int | None
    start: int


@dataclass(frozen=True)
class IdMap:
    """Which ids there are in a namespace."""

    users: tuple[Extent, ...]
    groups: tuple[Extent, ...]

    @contextlib.contextmanager
    def entering(self) -> Iterator[tuple[tuple[str, ...], tuple[int, ...], Callable[[Child], None]]]:
        """What a command in the namespace begins with, the descriptors that it inherits, and what is to be done once it has been
        started: it waits until its ids are mapped, which only somebody outside can do.
        """
        with contextlib.ExitStack() as opened:
            begun, says = (opened.enter_context(os.fdopen(end, "wb" if at else "rb", 0)) for at, end in enumerate(os.pipe()))
            hears, go_on = (opened.enter_context(os.fdopen(end, "wb" if at else "rb", 0)) for at, end in enumerate(os.pipe()))
            script = f'echo > /dev/fd/{says.fileno()}; read -r _ < /dev/fd/{hears.fileno()} && exec "$@"'
            prefix = ("unshare", "--user", "--keep-caps", "--", "sh", "-c", script, "sh")
            root = ("setpriv", "--reuid=0", "--regid=0", "--clear-groups", "--ambient-caps=-all", "--")

            def started(child: Child) -> None:
                says.close()
                if begun.read(1):
                    for program, extents in (("newuidmap", self.users), ("newgidmap", self.groups)):
                        numbers = [str(number) for extent in extents for number in extent]
                        process.run([program, str(child.pid), *numbers])
                go_on.write(b"\n")

            yield (*prefix, *root), (says.fileno(), hears.fileno()), started


def mapped(ids: Iterable[int], owned: Owned, count: int) -> tuple[Extent, ...]:
    """A map in which 0 and these ids exist. Raises `Refused` when they are more, or further apart, than a map can have."""
    extents: list[Extent] = []
    following = owned.start
    for number in sorted({0, *ids}):
        outside = owned.own if number == 0 and owned.own is not None else following
        following += outside == following
        if extents and _follows(extents[-1], number, outside):
            first, first_outside, length = extents[-1]
            extents[-1] = first, first_outside, length + 1
        else:
            extents.append((number, outside, 1))
    if len(extents) > _EXTENTS or following - owned.start > count:
        raise Refused(f"the files belong to too many users or groups above 65535: {len(extents)} ranges of them")
    return tuple(extents)


def _follows(extent: Extent, inside: int, outside: int) -> bool:
    first, first_outside, length = extent
    return (inside, outside) == (first + length, first_outside + length)
