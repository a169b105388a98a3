"""Who vouches for an image of a user's library in the site's eyes: those whom the system library believes.

What the user's own library believes is the user's to say, and so is what it noted about signatures.
"""

from __future__ import annotations

from dayfly.errors import DayflyError
from dayfly.image.search import Libraries
from dayfly.image.trust.cosign import signers
from dayfly.image.trust.provenance import LOCAL, Provenance, Stopped
from dayfly.image.trust.subscriptions import known


def by_site_of(digest: str, libraries: Libraries) -> Provenance:
    """How an image with this digest stands by the system library's lists and keys, wherever it is. Raises `Corrupt`.

    The system library's keys are held against the signatures that the user's library has, each time. A list that the site follows
    vouches for a digest, and so for a copy too. That an image is `local` says nothing of one that the site has not.
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
    believed = known(libraries.system)
    if not believed.keys and not believed.identities:
        return []
    try:
        return [believed.endorser(name) for name in signers(libraries.user, digest, believed)]
    except DayflyError:  # what is no sound signature is nobody's
        return []
