"""Building images from recipes."""

from dayfly.build.builder import Progress, build
from dayfly.build.recipe import Recipe, load, shipped

__all__ = ["Progress", "Recipe", "build", "load", "shipped"]
