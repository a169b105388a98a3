"""How an image came into its library, and who endorses it: values."""

from __future__ import annotations

from dayfly.errors import Refused
from dayfly.values import dataclass

LOCAL = "local"


class Stopped(Refused):
    """No list endorses the image any more."""


@dataclass(frozen=True)
class Provenance:
    """How an image came into its library, and who endorses it by valid lists and signatures.

    Origins are `list:IDENTIFIER` by a signed list, the source of an import or a pull (`docker://HOST/NAME:TAG`), or `local`.
    `weak` are messages about those of these lists whose signatures are too weak, but accepted.
    """

    origins: tuple[str, ...] = (LOCAL,)
    endorsers: tuple[str, ...] = ()
    weak: tuple[str, ...] = ()
