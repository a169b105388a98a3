"""Where an imported or pulled image came from, as noted in the library's index. An image may have several origins."""

from __future__ import annotations

import time
from collections.abc import Mapping

from dayfly.image.layout import ORIGIN, Index
from dayfly.units import format_time
from dayfly.values import dataclass


@dataclass(frozen=True)
class Origin:
    """How an image came into its library.

    For an import or a pull: the `source` as the user wrote it, the `digest` of the manifest found there (may be empty), and
    the time in UTC. Otherwise the source alone, as in `dayfly.image.trust.provenance`.
    """

    source: str
    digest: str = ""
    time: str = ""

    @classmethod
    def now(cls, source: object, digest: str) -> Origin:
        """The origin of an image that is brought in now."""
        return cls(str(source), digest, format_time(time.time()))

    def annotations(self) -> dict[str, str]:
        """The annotations in the index."""
        return {f"{ORIGIN}{name}": value for name, value in vars(self).items() if value}

    def __str__(self) -> str:
        return f"{self.source}{f' ({self.digest})' if self.digest else ''}{f', {self.time}' if self.time else ''}"


def parse_origin(annotations: Mapping[str, str]) -> Origin | None:
    """The origin in an image's entry of the index, if there is one."""
    source, digest, moment = (annotations.get(f"{ORIGIN}{name}", "") for name in ("source", "digest", "time"))
    return Origin(source, digest, moment) if source else None


def origins(index: Index, digest: str) -> list[Origin]:
    """All origins of an image."""
    found = (parse_origin(entry.descriptor.annotations) for entry in index.entries if entry.descriptor.digest == digest)
    return [origin for origin in found if origin]
