"""Building images from recipes."""

from dayfly.imagebuild.builder import build
from dayfly.imagebuild.filesystem import Progress
from dayfly.imagebuild.recipe import Recipe, find, load, shipped

__all__ = ["Progress", "Recipe", "build", "find", "load", "shipped"]
