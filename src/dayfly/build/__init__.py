"""Building images from recipes."""

from dayfly.build.builder import build
from dayfly.build.filesystem import Progress
from dayfly.build.recipe import Recipe, find, load, shipped

__all__ = ["Progress", "Recipe", "build", "find", "load", "shipped"]
