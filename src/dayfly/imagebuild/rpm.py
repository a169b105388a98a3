"""RPM distributions: dnf installs packages into a folder of a machine, and that becomes the root. The machine runs Debian.

dnf.conf(5) and dnf(8) are those of dnf 4.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dayfly.guest.boot import BootMode
from dayfly.image.library import OpenImage
from dayfly.imagebuild import capture, steps
from dayfly.imagebuild.containerimage.rootfs import Root
from dayfly.imagebuild.containerimage.tree import Attributes, Kind, Node
from dayfly.imagebuild.context import BuildContext
from dayfly.imagebuild.recipe import Recipe, RecipeFile, Repository
from dayfly.machine.config import Share
from dayfly.provision.scripts import Scripts, run_scripts
from dayfly.values import replace

BUILDER = Path(__file__).parent / "rpm-builder.toml"
"""The recipe of the image with dnf."""
LEAST_MEMORY = 1024**3
"""dnf reads a repository's metadata completely: for a whole distribution several hundred MiB."""

_WORK = "/var/tmp/dayfly"  # noqa: S108 (in the machine)
_ROOT = f"{_WORK}/root"
_MAIN = f"""\
[main]
assumeyes=1
best=1
install_weak_deps=0
tsflags=nodocs
plugins=0
keepcache=0
reposdir={_WORK}/none
varsdir={_WORK}/none
cachedir={_WORK}/cache
persistdir={_WORK}/persist
logdir={_WORK}/log
"""
_MACROS = "%_dbpath /var/lib/rpm\n"
"""Debian's rpm keeps its database in the user's home."""
_SYSTEM = f"""\
for program in systemd systemd-udevd; do
    [ -e {_ROOT}/usr/lib/systemd/$program ] && continue
    echo "boot = system needs $program, which is in none of the packages: systemd and systemd-udev contain both" >&2
    exit 1
done"""


def configuration(repositories: tuple[Repository, ...]) -> str:
    """dnf.conf(5)."""
    return _MAIN + "".join(
        f"\n[{repository.name}]\nname={repository.name}\nbaseurl={repository.url}\n"
        + (f"gpgcheck=1\ngpgkey=file://{_WORK}/{repository.name}.key\n" if repository.check else "gpgcheck=0\n")
        for repository in repositories
    )


def script(recipe: Recipe) -> str:
    """The script for the machine: it installs the packages and their dependencies into a folder of their own."""
    files = {f"{_WORK}/dnf.conf": configuration(recipe.repositories).encode(), "/etc/rpm/macros": _MACROS.encode()}
    files |= {f"{_WORK}/{repository.name}.key": repository.key for repository in recipe.repositories if repository.check}
    lines = [f"mkdir -p {_ROOT} /etc/rpm"]
    lines += [f"echo {base64.b64encode(content).decode()} | base64 -d > {path}" for path, content in files.items()]
    words = ["dnf", "-c", f"{_WORK}/dnf.conf", f"--installroot={_ROOT}", f"--releasever={recipe.release}", "install"]
    lines += [shlex.join([*words, "--", *recipe.packages])]
    # dnf made its own folders in that of the packages
    lines += [f"rm -rf {_ROOT}{_WORK}", f"chmod 1777 {_ROOT}/var/tmp"]  # noqa: S108 (in the machine)
    lines += [f"rmdir {_ROOT}/etc/dnf/* {_ROOT}/etc/dnf 2>&- || :"]
    lines += [_SYSTEM] if recipe.boot is BootMode.SYSTEM else []
    return "\n".join(lines)


def shares(recipe: Recipe) -> tuple[Share, ...]:
    """Read-only shares of this host's folders with repositories, at the same paths in the machine."""
    paths = sorted({path for repository in recipe.repositories if (path := folder(repository.url))})
    return tuple(Share(f"share{number}", path, path, readonly=True) for number, path in enumerate(paths))


def folder(url: str) -> str:
    """The folder of a `file:` address; empty for other addresses."""
    parts = urlsplit(url)
    return unquote(parts.path).rstrip("/") if parts.scheme == "file" else ""


def root(context: BuildContext, recipe: Recipe, builder: OpenImage) -> Root:
    """The root filesystem of a recipe's packages and files.

    Raises as `dayfly.provision.scripts.run_scripts`, and as `dayfly.imagebuild.capture.root`.
    """
    plain = steps.scripts(recipe, context.settings, (script(recipe),))
    memory = max(plain.shape.memory, 0 if recipe.machine.memory else LEAST_MEMORY)
    wanted: Scripts = replace(
        plain,
        shape=replace(plain.shape, memory=memory),
        shares=shares(recipe),
        environment=("LANG=C.UTF-8",),
        folder=_ROOT,
        what="installation of packages: step",
    )
    progress = context.progress
    with capture.archived(context.work, context.namespace.inner("packages")) as target:
        progress(f"packages: starting a machine of {builder.name}")
        run_scripts(builder, context.settings, wanted, target.archive, lambda _, line: progress(f"packages: {line}"), progress)
        return capture.root(target, "", context.date, progress, latest=context.date, additions=dict(_additions(recipe)))


def _additions(recipe: Recipe) -> Iterator[tuple[str, Node]]:
    for file in recipe.files:
        yield file.path.strip("/"), Node(Kind.FILE, _attributes(file, recipe.date), inline=file.content)


def _attributes(file: RecipeFile, date: int) -> Attributes:
    uid, gid = (0 if name == "root" else int(name) for name in (file.owner, file.group))
    return Attributes(file.mode, uid, gid, date)
