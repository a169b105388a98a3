"""The kernel for an image without one: from another image in a library, or else Debian's."""

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
"""The recipe whose kernel is fetched if no image has one."""


@dataclass(frozen=True)
class Kernel:
    """A kernel's version, and its layers."""

    version: str
    layers: dict[Role, Source]


def of_image(image: OpenImage) -> Kernel:
    """The kernel of an open image; valid as long as the image is open. Raises `Refused` if its modules are in its root."""
    if image.kernel is None:
        raise Refused(f"{image.name or image.digest} is a whole disk: its kernel is not known", "name an image like debian:12")
    if image.modules is None or image.boot_modules is None:
        raise Refused(f"{image.name or image.digest} has its kernel's modules in its root", "name an image like debian:12")
    parts = {Role.KERNEL: image.kernel, Role.MODULES: image.modules, Role.BOOT_MODULES: image.boot_modules}
    return Kernel(image.config.kernel.version, {role: Source(part.form, part.path) for role, part in parts.items()})


def find(libraries: Libraries, wanted: Reference | None) -> OpenImage | None:
    """The image that the kernel is taken from: the one that is wanted, or the one with the newest kernel; None if no image has
    one.
    """
    if wanted is not None:
        return libraries.open(wanted)
    found = sorted(_candidates(libraries), key=lambda pair: natural(pair[0]), reverse=True)
    return libraries.open(found[0][1]) if found else None


def _candidates(libraries: Libraries) -> Iterator[tuple[str, Reference]]:
    """The images with a layer of modules, each with its kernel's version; the site's images first."""
    for listed in libraries.images():
        reference = Reference(None, listed.digest, listed.library)
        try:
            _, manifest, config = libraries.library(listed.library).inspect(reference)
        except (NotFound, DayflyError):
            continue
        if manifest.find(Role.MODULES) and manifest.find(Role.BOOT_MODULES):
            yield config.kernel.version, reference


def debian(context: Callable[[int], BuildContext]) -> Kernel:
    """The kernel of the recipe debian:12, made in the same way: the same bytes."""
    known = recipe.find(_DEBIAN)
    parts, modules = context(known.date).debian_kernel(known.kernel)
    return Kernel(parts.version, layers_of(parts, modules))
