"""Asking the site's policy before a machine starts: who asks, for what, and which files have the rules.

On the way to every job's start. Where a site has no policy, its file is looked for and that is all.
"""

from __future__ import annotations

import os

from dayfly import files
from dayfly.errors import FieldError, FileErrors, Refused
from dayfly.image.library import OpenImage
from dayfly.image.reference import LibraryKind
from dayfly.image.search import Libraries
from dayfly.image.trust.provenance import Provenance
from dayfly.policy.rules import POLICY_LIMIT, WITHOUT_FILE, Caller, Denied, Facts, Image, MachineRequest, Policy, Shared, decide
from dayfly.principal import Principal, group_name
from dayfly.settings import POLICY_FILE, Settings
from dayfly.values import replace

TYPE_CHECKING = False  # typing's own costs an import at every start, and checkers know the name
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NAMELESS = f"{LibraryKind.USER}/"
"""What an image of a user's own library is called where its names, which that user gives, count for nothing."""
_NO_MACHINE = "as long as that is so no machine starts here"


def permit(
    image: OpenImage, settings: Settings, principal: Principal, request: MachineRequest, account: str = "", checked: str = ""
) -> float | None:
    """Ask all policies: the seconds that a machine like this may be there (None: no end).

    `account` is a batch job's as its variables say, `checked` as the batch system itself does. An image of a user's that is
    allowed for what it is, is that from now on: its open files are copies. Raises `Denied`, `FileErrors`, or `Corrupt`.
    """
    what = described(image, settings, principal)
    ends = [] if request.time is None else [request.time]
    by_content = False
    for policy in policies(settings, principal):
        who = caller(principal, account, named=policy.names_people)
        decision = decide(policy, who, what, request, vouched(policy, who, what, settings, checked))
        if not decision.allowed:
            raise decision.denied()
        by_content = by_content or (policy.sites and decision.by_content)
        ends += [] if decision.time is None else [decision.time]
    if by_content and image.library is not LibraryKind.SYSTEM:
        from dayfly.image.sealing import seal  # noqa: PLC0415 (few images of users are endorsed)

        seal(image, settings.scratch_folder)
    return min(ends, default=None)


def vouched(policy: Policy, who: Caller, what: Image, settings: Settings, account: str = "") -> Facts | None:
    """The facts by which a policy may allow; None: all that are said. By a site's policy these are what users cannot write.

    `account` is the job's as the batch system itself says it.
    """
    if not policy.sites:
        return None
    who = replace(who, account=account if settings.batch_checked_accounts else "")
    if what.library == LibraryKind.SYSTEM:
        return Facts(who, what)
    by_site = Provenance((), ())
    if policy.asks("endorser", "origin") and what.digest:
        from dayfly.image.trust.vouching import by_site_of  # noqa: PLC0415 (few policies ask this of images of users)

        by_site = by_site_of(what.digest, Libraries(settings))
    return Facts(who, Image(what.library, (NAMELESS,), what.digest, by_site.origins, by_site.endorsers, {}))


def policies(settings: Settings, principal: Principal) -> list[Policy]:
    """The site's policy, and the user's own where the settings name one: each has to allow a machine.

    Raises `Denied` for a file that cannot be read or that others than its owner could have written, `FileErrors`.
    """
    site = _site(settings)
    if settings.policy_user is None:
        return [site]
    own = read(str(settings.policy_user), {0, principal.uid})
    if own is None:
        raise Denied(f"the policy {settings.policy_user} does not exist", "policy.user of the settings names it")
    return [site, replace(own, sites=False)]


def _site(settings: Settings) -> Policy:
    """The site's policy; where it names none and has none, the rules that hold then."""
    path = settings.policy_system or POLICY_FILE
    policy = read(str(path), {0})
    if policy is None and settings.policy_system is not None:
        raise Denied(f"the policy {path} does not exist", "policy.system of the site's settings names it")
    return policy or replace(WITHOUT_FILE, place=f"the rules of a site without {path}")


def read(path: str, owners: set[int] | None) -> Policy | None:
    """The policy in a file that one of these users owns (None: whoever); None where there is none. Raises as `policies`."""
    try:
        content = files.read_owned(path, owners, POLICY_LIMIT)
    except Refused as error:
        raise Denied(f"the policy {path} cannot be used: {error.message}", error.hint or _NO_MACHINE) from error
    if content is None:
        return None

    from dayfly.policy.rules_file import parse  # noqa: PLC0415 (most machines have no policy, and every job would pay)

    try:
        return parse(content.decode(), path)
    except UnicodeDecodeError:
        raise FileErrors(path, [FieldError("file", "is not UTF-8")]) from None


def caller(principal: Principal, account: str = "", *, named: bool = True) -> Caller:
    """Who asks, as policies know users; by name too where that is asked for."""
    uid, gids = principal.uid, dict.fromkeys((principal.gid, *principal.groups))
    if not named:
        return Caller((str(uid),), tuple(map(str, gids)), account)
    groups = [text for gid in gids for text in (str(gid), group_name(gid))]
    return Caller((str(uid), principal.name()), tuple(groups), account)


def described(image: OpenImage, settings: Settings, principal: Principal) -> Image:
    """An open image, as policies know it."""
    return known(image.library, image.names, image.digest, image.config.labels, image.provenance, settings, principal)


def known(
    kind: LibraryKind,
    names: tuple[str, ...],
    digest: str,
    labels: Mapping[str, str],
    provenance: Provenance,
    settings: Settings,
    principal: Principal,
) -> Image:
    """An image of a library, with all the names that it has there, as policies know it."""
    shown = tuple(f"{kind}/{name}" for name in names) or (f"{kind}/{digest}",)
    return Image(whose(kind, settings, principal), shown, digest, provenance.origins, provenance.endorsers, labels)


def whose(kind: LibraryKind, settings: Settings, principal: Principal) -> str:
    """Whose library that is, in the words of a policy: a library that somebody else owns is not one's own, wherever it is."""
    if kind is LibraryKind.SYSTEM:
        return "system"
    return "own" if os.stat(settings.library_user).st_uid == principal.uid else "other"  # noqa: PTH116 (a hot path)


def shared(folders: Iterable[tuple[str, bool]]) -> tuple[Shared, ...]:
    """Folders and whether they are read-only, as policies know them: by where a path leads, not by how it is written."""
    return tuple(_shared(os.path.realpath(path), readonly) for path, readonly in folders)


def _shared(path: str, readonly: bool) -> Shared:
    try:
        return Shared(path, readonly, os.stat(path).st_uid)  # noqa: PTH116 (a hot path)
    except OSError:  # nothing is known of it, so the worst is: sharing it fails a moment later
        return Shared(path, readonly, 0)
