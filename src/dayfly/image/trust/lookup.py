"""Whether an image may still be run: asked for every job.

On the way to every job's start. Where a library has no subscriptions, their file is looked for and that is all.
"""

from __future__ import annotations

import os

from dayfly import disknames
from dayfly.image.layout import Layout
from dayfly.image.trust.provenance import LOCAL, Provenance


def provenance_of(layout: Layout, digest: str, label: str, sources: tuple[str, ...] = (), *, weak: bool = False) -> Provenance:
    """How an image stands, that the library's index says came from these sources. `weak`: lists may have weak signatures.

    Raises `Stopped` when it came by lists, and none of them vouches for it now; `Corrupt`.
    """
    try:
        os.stat(f"{layout.folder}/{disknames.TRUST}/{disknames.TRUST_STATE}")  # noqa: PTH116 (a hot path)
    except (FileNotFoundError, NotADirectoryError):
        return Provenance(sources or (LOCAL,))
    except OSError:  # reading it fails too, and tells why
        pass
    from dayfly.image.trust.judging import judge  # noqa: PLC0415 (only where there are subscriptions)

    return judge(layout, digest, label, sources, weak=weak)
