"""Images from containers."""

from dayfly.build.container.importer import Imported, Wish, import_container
from dayfly.build.container.source import Source, default_name, parse
from dayfly.build.container.tree import Limits
from dayfly.build.skopeo import Access

__all__ = ["Access", "Imported", "Limits", "Source", "Wish", "default_name", "import_container", "parse"]
