"""Whether an image may still be run: asked for every job.

On the way to every job's start. Where a library has no subscriptions, their file is looked for and that is all.
"""

from __future__ import annotations

import os

from dayfly.errors import Refused
from dayfly.image.layout import Layout
from dayfly.values import dataclass

LOCAL = "local"


class Stopped(Refused):
    """No list vouches for the image any more."""


@dataclass(frozen=True)
class Standing:
    """How an image came into its library, and who vouches for it by lists that are in force.

    Origins are `list:IDENTIFIER` by a signed list, the source of an import or a pull (`docker://HOST/NAME:TAG`), or `local`.
    `weak` says for people which of these lists have signatures that are too weak, and are believed all the same.
    """

    origins: tuple[str, ...] = (LOCAL,)
    endorsers: tuple[str, ...] = ()
    weak: tuple[str, ...] = ()


def standing(layout: Layout, digest: str, label: str, sources: tuple[str, ...] = (), *, weak: bool = False) -> Standing:
    """How an image stands, that the library's index says came from these sources. `weak`: lists may have weak signatures.

    Raises `Stopped` when it came by lists, and none of them vouches for it now; `Corrupt`.
    """
    try:
        os.stat(f"{layout.folder}/trust/state.json")  # noqa: PTH116 (a hot path)
    except (FileNotFoundError, NotADirectoryError):
        return Standing(sources or (LOCAL,))
    except OSError:  # reading it fails too, and tells why
        pass
    from dayfly.image.trust.judging import judge  # noqa: PLC0415 (only where there are subscriptions)

    return judge(layout, digest, label, sources, weak=weak)
