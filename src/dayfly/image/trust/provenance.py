"""How an image came into its library, and who vouches for it: values."""

from __future__ import annotations

from dayfly.errors import Refused
from dayfly.values import dataclass

LOCAL = "local"


class Stopped(Refused):
    """No list vouches for the image any more."""


@dataclass(frozen=True)
class Provenance:
    """How an image came into its library, and who vouches for it by lists that are in force.

    Origins are `list:IDENTIFIER` by a signed list, the source of an import or a pull (`docker://HOST/NAME:TAG`), or `local`.
    `weak` says for people which of these lists have signatures that are too weak, and are believed all the same.
    """

    origins: tuple[str, ...] = (LOCAL,)
    endorsers: tuple[str, ...] = ()
    weak: tuple[str, ...] = ()
