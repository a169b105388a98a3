"""The kernel of an image that brings none: that of another image in a library, or else Debian's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dayfly.errors import DayflyError, NotFound, Refused
from dayfly.image.library import OpenImage, Source
from dayfly.image.manifest import Role
from dayfly.image.reference import Reference
from dayfly.image.search import Libraries
from dayfly.imagebuild import recipe
from dayfly.imagebuild.boot import natural
from dayfly.imagebuild.context import BuildContext, layers_of

_DEBIAN = "debian:12"
"""The recipe whose kernel is fetched where no image has one."""


@dataclass(frozen=True)
class Kernel:
    """A kernel's version, and an image's layers of it."""

    version: str
    layers: dict[Role, Source]


def of_image(image: OpenImage) -> Kernel:
    """The kernel of an open image; of use as long as that is open. Raises `Refused` where its modules are among its own files."""
    if image.kernel is None:
        raise Refused(f"{image.name or image.digest} is a whole disk: its kernel is not known", "name an image like debian:12")
    if image.modules is None or image.boot_modules is None:
        raise Refused(
            f"{image.name or image.digest} has its kernel's modules among its own files", "name an image like debian:12"
        )
    parts = {Role.KERNEL: image.kernel, Role.MODULES: image.modules, Role.BOOT_MODULES: image.boot_modules}
    return Kernel(image.config.kernel.version, {role: Source(part.form, part.path) for role, part in parts.items()})


def find(libraries: Libraries, wanted: Reference | None) -> OpenImage | None:
    """The image that a kernel is taken of: the one that is wanted, or the one with the newest; None where no image has one."""
    if wanted is not None:
        return libraries.open(wanted)
    found = sorted(_candidates(libraries), key=lambda pair: natural(pair[0]), reverse=True)
    return libraries.open(found[0][1]) if found else None


def _candidates(libraries: Libraries) -> Iterator[tuple[str, Reference]]:
    """The images whose modules are a layer of their own: their kernels' versions; the site's images first."""
    for listed in libraries.images():
        reference = Reference(None, listed.digest, listed.library)
        try:
            _, manifest, config = libraries.library(listed.library).inspect(reference)
        except (NotFound, DayflyError):
            continue
        if manifest.find(Role.MODULES) and manifest.find(Role.BOOT_MODULES):
            yield config.kernel.version, reference


def debian(shop: Callable[[int], BuildContext]) -> Kernel:
    """The kernel that the recipe debian:12 takes, made as it makes it: the same bytes."""
    known = recipe.find(_DEBIAN)
    parts, modules = shop(known.date).debian_kernel(known.kernel)
    return Kernel(parts.version, layers_of(parts, modules))
