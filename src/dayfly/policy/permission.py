"""Checking a machine against the site's policy before it starts: the caller, the request and the files of rules.

This is on the hot path of every job. Where a site has no policy, it costs one look for the file.
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
"""The name of an image of a user's library where the names that the user gave it do not count."""
_NO_MACHINE = "until that is fixed, no machine starts on this host"


def permit(
    image: OpenImage, settings: Settings, principal: Principal, request: MachineRequest, account: str = "", checked: str = ""
) -> float | None:
    """Check a machine against all policies: the seconds that it may exist (None: no limit).

    `account` is a batch job's as its variables say, `checked` as the batch system itself says. If an image of a user's
    library is allowed for its content, its open files are replaced by copies, so that the content cannot change. Raises
    `Denied`, `FileErrors`, or `Corrupt`.
    """
    what = described(image, settings, principal)
    ends = [] if request.time is None else [request.time]
    by_content = False
    for policy in policies(settings, principal):
        who = caller(principal, account, named=policy.names_people)
        decision = decide(policy, who, what, request, trusted_facts(policy, who, what, settings, checked))
        if not decision.allowed:
            raise decision.denied()
        by_content = by_content or (policy.sites and decision.by_content)
        ends += [] if decision.time is None else [decision.time]
    if by_content and image.library is not LibraryKind.SYSTEM:
        from dayfly.image.sealing import seal  # noqa: PLC0415 (few images of users are endorsed)

        seal(image, settings.scratch_folder)
    return min(ends, default=None)


def trusted_facts(policy: Policy, who: Caller, what: Image, settings: Settings, account: str = "") -> Facts | None:
    """The facts that a rule may use to allow; None: all. For a site's policy these are the facts that users cannot write.

    `account` is the job's, as the batch system itself says.
    """
    if not policy.sites:
        return None
    who = replace(who, account=account if settings.batch_checked_accounts else "")
    if what.library == LibraryKind.SYSTEM:
        return Facts(who, what)
    by_site = Provenance((), ())
    if policy.asks("endorser", "origin") and what.digest:
        from dayfly.image.trust.site import provenance_by_site  # noqa: PLC0415 (few policies ask this of images of users)

        by_site = provenance_by_site(what.digest, Libraries(settings))
    return Facts(who, Image(what.library, (NAMELESS,), what.digest, by_site.origins, by_site.endorsers, {}))


def policies(settings: Settings, principal: Principal) -> list[Policy]:
    """The site's policy, and the user's own if the settings name one. Each must allow a machine.

    Raises `Denied` for a file that cannot be read or that users other than its owner can write, and `FileErrors`.
    """
    site = _site(settings)
    if settings.policy_user is None:
        return [site]
    own = read(str(settings.policy_user), {0, principal.uid})
    if own is None:
        raise Denied(f"the policy {settings.policy_user} does not exist", "policy.user of the settings names it")
    return [site, replace(own, sites=False)]


def _site(settings: Settings) -> Policy:
    """The site's policy; the built-in rules if the settings name no file and the default file does not exist."""
    path = settings.policy_system or POLICY_FILE
    policy = read(str(path), {0})
    if policy is None and settings.policy_system is not None:
        raise Denied(f"the policy {path} does not exist", "policy.system of the site's settings names it")
    return policy or replace(WITHOUT_FILE, place=f"the rules of a site without {path}")


def read(path: str, owners: set[int] | None) -> Policy | None:
    """The policy in a file that one of these users owns (None: any user); None if there is no file. Raises as `policies`."""
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
    """The caller in a policy's terms; with names too if `named`."""
    uid, gids = principal.uid, dict.fromkeys((principal.gid, *principal.groups))
    if not named:
        return Caller((str(uid),), tuple(map(str, gids)), account)
    groups = [text for gid in gids for text in (str(gid), group_name(gid))]
    return Caller((str(uid), principal.name()), tuple(groups), account)


def described(image: OpenImage, settings: Settings, principal: Principal) -> Image:
    """An open image in a policy's terms."""
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
    """An image of a library in a policy's terms, with all its names there."""
    shown = tuple(f"{kind}/{name}" for name in names) or (f"{kind}/{digest}",)
    return Image(whose(kind, settings, principal), shown, digest, provenance.origins, provenance.endorsers, labels)


def whose(kind: LibraryKind, settings: Settings, principal: Principal) -> str:
    """A library's owner in a policy's terms. A library that another user owns is never `own`, wherever it is."""
    if kind is LibraryKind.SYSTEM:
        return "system"
    return "own" if os.stat(settings.library_user).st_uid == principal.uid else "other"  # noqa: PTH116 (a hot path)


def shared(folders: Iterable[tuple[str, bool]]) -> tuple[Shared, ...]:
    """Folders in a policy's terms: each with the real path, and whether it is read-only."""
    return tuple(_shared(os.path.realpath(path), readonly) for path, readonly in folders)


def _shared(path: str, readonly: bool) -> Shared:
    try:
        return Shared(path, readonly, os.stat(path).st_uid)  # noqa: PTH116 (a hot path)
    except OSError:  # its owner is unknown: the strictest is assumed, and sharing it fails a moment later
        return Shared(path, readonly, 0)
