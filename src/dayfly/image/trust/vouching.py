"""Who vouches for an image of a user's library in the site's eyes: those whom the system library believes.

What the user's own library believes is the user's to say, and so is what it noted about signatures.
"""

from __future__ import annotations

from dayfly.errors import DayflyError
from dayfly.image.search import Libraries
from dayfly.image.trust.cosign import signers
from dayfly.image.trust.standing import LOCAL, Standing, Stopped
from dayfly.image.trust.subscriptions import known


def by_site_of(digest: str, libraries: Libraries) -> Standing:
    """How an image with this digest stands by the system library's lists and keys, wherever it is. Raises `Corrupt`.

    The system library's keys are held against the signatures that the user's library has, each time. A list that the site follows
    vouches for a digest, and so for a copy too. That an image is `local` says nothing of one that the site has not.
    """
    system = libraries.system
    try:
        standing = system.standing(digest)
    except Stopped:
        standing = Standing((), ())
    there = bool(system.index().starting(digest))
    origins = tuple(origin for origin in standing.origins if there or origin != LOCAL)
    return Standing(origins, tuple(dict.fromkeys((*standing.endorsers, *_signers(digest, libraries)))))


def _signers(digest: str, libraries: Libraries) -> list[str]:
    believed = known(libraries.system)
    if not believed.keys and not believed.identities:
        return []
    try:
        return [believed.endorser(name) for name in signers(libraries.user, digest, believed)]
    except DayflyError:  # what is no sound signature is nobody's
        return []
