"""Where an image came from that was not built here, as the library's index notes it: the same image may come in several ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_PREFIX = "org.dayfly.origin."


@dataclass(frozen=True)
class Origin:
    """The `source` as the user wrote it, the `digest` of the manifest found there (may be empty), and when, in UTC."""

    source: str
    digest: str
    time: str

    def annotations(self) -> dict[str, str]:
        """As it stands in the index."""
        return {f"{_PREFIX}{name}": value for name, value in vars(self).items() if value}

    def __str__(self) -> str:
        return f"{self.source}{f' ({self.digest})' if self.digest else ''}, {self.time}"


def parse_origin(annotations: Mapping[str, str]) -> Origin | None:
    """The origin that an image's entry in the index names, if it does."""
    source, digest, time = (annotations.get(f"{_PREFIX}{name}", "") for name in ("source", "digest", "time"))
    return Origin(source, digest, time) if source else None
