"""Building images from recipes: `dayfly image build`."""

from __future__ import annotations

from dayfly import imagebuild
from dayfly.image.reference import LibraryKind, Name
from dayfly.image.search import Libraries
from dayfly.imagebuild import Recipe
from dayfly.notices import Notify
from dayfly.settings import Settings


def build(
    recipe: Recipe,
    kind: LibraryKind,
    settings: Settings,
    progress: Notify,
    notify: Notify,
    name: Name | None = None,
) -> tuple[Name, str]:
    """Build an image into the system library or the user's own, and return its name and digest. Raises `DayflyError`."""
    libraries = Libraries(settings)
    named = name or recipe.name
    if warning := libraries.warning(named, kind):
        notify(warning)
    return named, imagebuild.build(recipe, libraries.library(kind), settings, progress, name=named)
