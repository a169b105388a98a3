"""Whether an image may still be run: checked for every job.

This is on the hot path of every job. Where a library has no subscriptions, it costs one look for the file.
"""

from __future__ import annotations

import os

from dayfly import disknames
from dayfly.image.layout import Layout
from dayfly.image.trust.provenance import LOCAL, Provenance


def provenance_of(layout: Layout, digest: str, label: str, sources: tuple[str, ...] = (), *, weak: bool = False) -> Provenance:
    """The provenance of an image; `sources` are those in the library's index. `weak`: lists may have weak signatures.

    Raises `Stopped` if it came by lists and none of them endorses it now; `Corrupt`.
    """
    try:
        os.stat(f"{layout.folder}/{disknames.TRUST}/{disknames.TRUST_STATE}")  # noqa: PTH116 (a hot path)
    except (FileNotFoundError, NotADirectoryError):
        return Provenance(sources or (LOCAL,))
    except OSError:  # reading it fails too, and says why
        pass
    from dayfly.image.trust.judging import judge  # noqa: PLC0415 (only where there are subscriptions)

    return judge(layout, digest, label, sources, weak=weak)
