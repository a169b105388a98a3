"""Where an image came from that was not built here, as the library's index notes it: the same image may come in several ways."""

from __future__ import annotations

import time
from collections.abc import Mapping

from dayfly.image.layout import ORIGIN, Index
from dayfly.units import format_time
from dayfly.values import dataclass


@dataclass(frozen=True)
class Origin:
    """How an image came into its library.

    Of an import or a pull: the `source` as the user wrote it, the `digest` of the manifest found there (may be empty), and when,
    in UTC. Else the source alone, as `dayfly.image.trust.provenance` has it.
    """

    source: str
    digest: str = ""
    time: str = ""

    @classmethod
    def now(cls, source: object, digest: str) -> Origin:
        """Of what is brought at this moment."""
        return cls(str(source), digest, format_time(time.time()))

    def annotations(self) -> dict[str, str]:
        """As it stands in the index."""
        return {f"{ORIGIN}{name}": value for name, value in vars(self).items() if value}

    def __str__(self) -> str:
        return f"{self.source}{f' ({self.digest})' if self.digest else ''}{f', {self.time}' if self.time else ''}"


def parse_origin(annotations: Mapping[str, str]) -> Origin | None:
    """The origin that an image's entry in the index names, if it does."""
    source, digest, moment = (annotations.get(f"{ORIGIN}{name}", "") for name in ("source", "digest", "time"))
    return Origin(source, digest, moment) if source else None


def origins(index: Index, digest: str) -> list[Origin]:
    """What the entries of an image note."""
    found = (parse_origin(entry.descriptor.annotations) for entry in index.entries if entry.descriptor.digest == digest)
    return [origin for origin in found if origin]
