"""The provenance of an image of a user's library by the site's trust: the lists and keys of the system library.

The trust of the user's own library, and its notes about signatures, are under the user's control and do not count.
"""

from __future__ import annotations

from dayfly.errors import DayflyError
from dayfly.image.search import Libraries
from dayfly.image.trust.cosign import signers
from dayfly.image.trust.provenance import LOCAL, Provenance, Stopped
from dayfly.image.trust.subscriptions import known


def provenance_by_site(digest: str, libraries: Libraries) -> Provenance:
    """The provenance of an image with this digest by the system library's lists and keys, wherever the image is. Raises
    `Corrupt`.

    The signatures in the user's library are verified with the system library's keys each time. A list of the site endorses a
    digest, and so a copy too. An image that is not in the system library has no origin `local`.
    """
    system = libraries.system
    try:
        provenance = system.provenance(digest)
    except Stopped:
        provenance = Provenance((), ())
    there = bool(system.index().starting(digest))
    origins = tuple(origin for origin in provenance.origins if there or origin != LOCAL)
    return Provenance(origins, tuple(dict.fromkeys((*provenance.endorsers, *_signers(digest, libraries)))))


def _signers(digest: str, libraries: Libraries) -> list[str]:
    trusted = known(libraries.system)
    if not trusted.keys and not trusted.identities:
        return []
    try:
        return [trusted.endorser(name) for name in signers(libraries.user, digest, trusted)]
    except DayflyError:  # an invalid signature has no signer
        return []
