"""Whether lists endorse an image, from the state of its library's subscriptions."""

from __future__ import annotations

import time

from dayfly import files
from dayfly.errors import DayflyError, in_words
from dayfly.image.layout import Layout
from dayfly.image.trust.provenance import LOCAL, Provenance, Stopped
from dayfly.image.trust.state import Entry, State, Subscription, fingerprint, read, signed_path


def judge(layout: Layout, digest: str, label: str, sources: tuple[str, ...], *, weak: bool) -> Provenance:
    """The provenance of an image, see `dayfly.image.trust.lookup`."""
    state = read(layout)
    otherwise = sources or (LOCAL,)
    if state is None:
        return Provenance(otherwise)
    entries = state.images.get(digest, ())
    keys = tuple(endorser for name in state.signed.get(digest, ()) if (endorser := state.endorser(name)))
    if not entries:
        return Provenance(otherwise, keys)
    now = time.time()
    against = {entry.list: problem(layout, state, entry, now, weak=weak) for entry in entries}
    good = [entry for entry in entries if not against[entry.list]]
    local = digest in state.local
    if not good and not local:
        raise Stopped(
            f"{label} may not be run: {'; '.join(against.values())}",
            "`dayfly trust list` shows the lists, `dayfly trust update` fetches newer versions",
        )
    came = (*(otherwise if local else sources), *(entry.origin for entry in good))
    weak_lists = tuple(weakness(entry.list, state.lists[entry.list]) for entry in good if state.lists[entry.list].accepted.weak)
    return Provenance(came, tuple(dict.fromkeys((*(entry.endorser for entry in good), *keys))), weak_lists)


def weakness(name: str, subscription: Subscription) -> str:
    """The warning for each use of a list with a weak signature."""
    return f"the list '{name}' is accepted by trust.weak_lists of the settings, although {'; '.join(subscription.accepted.weak)}"


def problem(layout: Layout, state: State, entry: Entry, now: float, *, weak: bool) -> str:
    """Why a list does not endorse an image (may be empty)."""
    subscription = state.lists.get(entry.list)
    if entry.stopped or subscription is None:
        return entry.stopped or f"the list '{entry.list}' was removed"
    ended = f"by the list '{entry.list}' it expired on {day(entry.until)}" if now >= entry.until else ""
    return list_problem(layout, entry.list, subscription, now, weak=weak) or ended


def list_problem(layout: Layout, name: str, subscription: Subscription, now: float, *, weak: bool) -> str:
    """Why a list is not valid (may be empty).

    The signature is checked again if a file of a certification authority or a revocation list has changed since the last
    check.
    """
    accepted = subscription.accepted
    if now >= accepted.until:
        return f"the list '{name}' expired on {day(accepted.until)}"
    if accepted.weak and not weak:
        return f"the list '{name}' is not trusted any more: its signature is too weak: {'; '.join(accepted.weak)}"
    if all(fingerprint(path) == seen for path, seen in accepted.watched.items()):
        return ""

    from dayfly.image.trust.smime import SIGNED_LIMIT, verify  # noqa: PLC0415 (only when a file has changed)

    try:
        signed = verify(
            files.read(signed_path(layout, accepted), SIGNED_LIMIT),
            subscription.authorities,
            subscription.revocations,
            weak=weak,
        )
    except (DayflyError, OSError) as error:
        why = error.message if isinstance(error, DayflyError) else in_words(error)
        return f"the list '{name}' is not trusted any more: {why}"
    if (signed.signer, signed.issuer) != (accepted.endorser, accepted.issuer):
        return f"the list '{name}' now has another signer"
    return ""


def day(seconds: int) -> str:
    """A time for messages."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
