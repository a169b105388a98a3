"""Adds to a container image's tree what a machine needs to boot from it."""

from __future__ import annotations

from dayfly.errors import Refused
from dayfly.image.manifest import OperatingSystem, os_problem
from dayfly.imagebuild.containerimage.tree import Attributes, Kind, Node, Tree
from dayfly.imagebuild.root import HOSTS, parse_os_release

_MOUNTED = ("dev", "proc", "sys")
"""The folders that a machine mounts something of its own on."""
_FOLDERS = {"etc": 0o755, "run": 0o755, "tmp": 0o1777, "usr/lib": 0o755}
_FILES = {"etc/hostname": b"localhost\n", "etc/hosts": HOSTS.encode(), "etc/machine-id": b"", "etc/resolv.conf": b""}
_MODULES = "lib/modules"


def furnish(tree: Tree, directory: str, date: int) -> None:
    """Add what is missing. Raises `Refused` if the modules' filesystem, laid over the root, would hide files of it."""
    for path in ("usr", "usr/lib"):
        if tree.has(path) and not tree.is_folder(path):
            raise Refused(f"/{path} is not a folder, but the kernel's modules must be below it")
    for path in _MOUNTED:
        if not tree.is_folder(path):
            tree.add(path, Node(Kind.FOLDER, Attributes(0o755, mtime=date)))
    for path, mode in _FOLDERS.items():
        tree.add_folder(path, mode)
    _add_directory(tree, directory)
    for path, content in _FILES.items():
        found = tree.find(path)
        if not tree.has(path) or (path == "etc/hosts" and found is not None and found.size == 0):
            tree.add(path, Node(Kind.FILE, Attributes(0o644, mtime=date), inline=content))
    if tree.is_folder("lib") and not tree.has(_MODULES):
        tree.add(_MODULES, Node(Kind.LINK, Attributes(0o777, mtime=date), target=f"../usr/{_MODULES}"))


def _add_directory(tree: Tree, directory: str) -> None:
    """Make the working directory of the container image's command."""
    try:
        tree.add_folder(directory)
    except Refused as error:
        found = tree.find(directory)
        why = f"is a {found.kind} in its layers" if found else f"cannot be made: {error.message}"
        hint = "the container image contradicts itself: build it with another WORKDIR"
        raise Refused(f"the container image's WorkingDir, {directory[:200]}, {why}", hint) from error


def operating_system(text: str) -> OperatingSystem:
    """The values of a container image's os-release(5) that an image can have."""
    found = parse_os_release(text)
    return OperatingSystem("linux") if os_problem(found) else found
