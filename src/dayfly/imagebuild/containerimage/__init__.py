"""Images from container images."""

from dayfly.imagebuild.containerimage.importer import Imported, ImportOptions, import_container
from dayfly.imagebuild.containerimage.source import Source, default_name, parse
from dayfly.imagebuild.containerimage.tree import Limits
from dayfly.imagebuild.skopeo import Access

__all__ = ["Access", "ImportOptions", "Imported", "Limits", "Source", "default_name", "import_container", "parse"]
