"""Images from whole disks: those that clouds boot."""

from dayfly.build.container.tree import Limits
from dayfly.build.disk.importer import Wish, import_disk
from dayfly.build.disk.source import Checksum, Source, parse, parse_checksum

__all__ = ["Checksum", "Limits", "Source", "Wish", "import_disk", "parse", "parse_checksum"]
