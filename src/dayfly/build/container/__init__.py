"""Images from containers."""

from dayfly.build.container.fetch import Access
from dayfly.build.container.importer import Imported, Wish, import_container
from dayfly.build.container.source import Source, parse
from dayfly.build.container.tree import Limits

__all__ = ["Access", "Imported", "Limits", "Source", "Wish", "import_container", "parse"]
