"""Images from disks, such as cloud images."""

from dayfly.imagebuild.containerimage.tree import Limits
from dayfly.imagebuild.disk.importer import ImportOptions, import_disk
from dayfly.imagebuild.disk.source import Checksum, Source, parse, parse_checksum

__all__ = ["Checksum", "ImportOptions", "Limits", "Source", "import_disk", "parse", "parse_checksum"]
