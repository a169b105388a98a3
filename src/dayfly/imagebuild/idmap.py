"""Maps for a user namespace in which chosen ids exist: files may belong to any of 2³² users, but we have a range of 65536."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from dayfly import process
from dayfly.errors import Refused
from dayfly.process import Child

_EXTENTS = 128
"""The kernel accepts at most 340 lines, of at most 4 KiB, in a map (user_namespaces(7))."""

Extent = tuple[int, int, int]
"""The first id in the namespace, the first outside of it, and the length of the range."""


@dataclass(frozen=True)
class Owned:
    """The ids that we may use outside: a range from `start` on; `own` is what 0 is mapped to (None: the first of the range)."""

    own: int | None
    start: int


@dataclass(frozen=True)
class IdMap:
    """The ids in a namespace."""

    users: tuple[Extent, ...]
    groups: tuple[Extent, ...]

    @contextlib.contextmanager
    def entering(self) -> Iterator[tuple[tuple[str, ...], tuple[int, ...], Callable[[Child], None]]]:
        """The prefix of a command in the namespace, the descriptors that it inherits, and a function to be called once it has
        started: the command waits until its ids are mapped, which can only be done from outside.
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
    """A map in which 0 and these ids exist. Raises `Refused` if they are too many, or too far apart, for a map."""
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
        raise Refused(f"the files belong to too many users or groups above 65535, in {len(extents)} ranges")
    return tuple(extents)


def _follows(extent: Extent, inside: int, outside: int) -> bool:
    first, first_outside, length = extent
    return (inside, outside) == (first + length, first_outside + length)
