"""Makes the root filesystem of an image from unpacked layers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dayfly.image.manifest import OperatingSystem
from dayfly.imagebuild import filesystem
from dayfly.imagebuild.containerimage import archive, layer
from dayfly.imagebuild.containerimage.furnish import furnish, operating_system
from dayfly.imagebuild.containerimage.tree import Limits, Node, Tree
from dayfly.imagebuild.namespace import Namespace
from dayfly.units import format_size

_TEXT_LIMIT = 1024**2


@dataclass(frozen=True)
class Root:
    """A filesystem's file, the size of the files in it in bytes, and their operating system."""

    path: Path
    size: int
    os: OperatingSystem


def make(
    layers: Sequence[Path],
    limits: Limits,
    date: int,
    directory: str,
    namespace: Namespace,
    progress: filesystem.Progress,
    *,
    latest: int | None = None,
    additions: Mapping[str, Node] | None = None,
    captured: bool = False,
) -> Root:
    """The filesystem of these layers, one over the other. `date` is that of added files, like the folder `directory`.

    With `latest`, no file is newer than that; `additions` are files that are laid over the layers. `captured`: these are
    archives of a machine's files, as its agent writes them, not layers. Raises `Refused` for files that no image may have,
    `ProgramFailed`, `NoSpace`.
    """
    tree = Tree(limits, date)
    for number, path in enumerate(layers):
        tree.apply(layer.entries(path, number, limits.entries, captured=captured), hides=not captured)
    tree.drop_devices()
    for place, node in (additions or {}).items():
        tree.add(place, node)
    with _all_open(layers) as opened:
        release = archive.content(tree.find("etc/os-release"), opened, _TEXT_LIMIT).decode(errors="replace")
        return of_tree(tree, opened, release, date, directory, namespace, progress, latest=latest)


def of_tree(
    tree: Tree,
    opened: Sequence[int],
    release: str,
    date: int,
    directory: str,
    namespace: Namespace,
    progress: filesystem.Progress,
    *,
    latest: int | None = None,
) -> Root:
    """The filesystem of a tree whose content is in these open files; `release` is its os-release. Otherwise as `make`."""
    furnish(tree, directory, date)
    size = tree.check()
    progress(f"root: making the filesystem of {format_size(size)} of files")
    every = [node.attributes for _, node in tree.walk()]
    where = namespace.having({about.uid for about in every}, {about.gid for about in every})
    youngest = max(about.mtime for about in every) if latest is None else latest
    bound = youngest if all(about.mtime >= 0 for about in every) else filesystem.NO_BOUND
    path = filesystem.from_stream(where, lambda target: archive.write(tree, opened, target, youngest), bound)
    return Root(path, size, operating_system(release))


@contextlib.contextmanager
def _all_open(paths: Sequence[Path]) -> Iterator[list[int]]:
    with contextlib.ExitStack() as opened:
        yield [opened.enter_context(path.open("rb")).fileno() for path in paths]
