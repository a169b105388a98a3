"""The facts that a policy uses, each with its source, in words for messages. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from dayfly.image.reference import LibraryKind, named_by
from dayfly.policy.rules import Facts, Policy, Rule, fits
from dayfly.values import dataclass

_HOST = "the users and groups of this host"
_OWNER = "the owner of the library's folder"
_USERS = "the user's library"
_SITES = "the system library"
SOURCES: Mapping[str, tuple[str, str, str]] = {
    "user": (_HOST, _HOST, _HOST),
    "group": (_HOST, _HOST, _HOST),
    "account": ("the batch system, which checks it", "the batch system, which checks it", "the job, which can name any"),
    "library": (_OWNER, _OWNER, _OWNER),
    "image": (_SITES, _OWNER, _USERS),
    "digest": ("the image itself", "the image itself; a copy of it is run", "the image itself"),
    "endorser": (_SITES, f"the lists and keys of {_SITES}", f"the lists and keys of {_USERS}"),
    "origin": (_SITES, f"the lists of {_SITES}", _USERS),
    "label": (_SITES, _SITES, f"the image, in {_USERS}"),
}
"""The source of a fact, by its condition: for an image of the system library; for another that the site knows; for one that it
does not.
"""


@dataclass(frozen=True)
class Fact:
    """A fact, and whether a rule that allows may use it. `used`: the rule that decided has a condition on it, and it matches."""

    condition: str
    value: str
    source: str
    counts: bool
    used: bool


def values(facts: Facts) -> Mapping[str, tuple[str, ...]]:
    """The facts as texts, by the conditions that use them."""
    caller, image = facts.caller, facts.image
    found = {
        "user": caller.users,
        "group": caller.groups,
        "account": (caller.account,),
        "library": (image.library,),
        "image": image.names,
        "digest": (image.digest,),
        "endorser": image.endorsers,
        "origin": image.origins,
        "label": tuple(f"{name}={value}" for name, value in image.labels.items()),
    }
    return {condition: tuple(filter(None, texts)) for condition, texts in found.items()}


def gather(policy: Policy, rule: Rule | None, said: Facts, trusted: Facts | None) -> list[Fact]:
    """All facts that a policy uses, marked if the rule that decided used them (None: no rule decided)."""
    mine, sites = values(said), values(trusted or said)
    system = said.image.library == LibraryKind.SYSTEM
    found = []
    for condition, (by_system, by_site, by_user) in SOURCES.items():
        if not policy.asks(condition):
            continue
        for value in dict.fromkeys((*sites[condition], *mine[condition])):
            counts = value in sites[condition]
            source = (by_system if system else by_site) if counts else by_user
            goes = rule is not None and (counts or not rule.allow) and _asked(rule, condition, value)
            found.append(Fact(condition, value, source, counts, goes))
    return found


def _asked(rule: Rule, condition: str, value: str) -> bool:
    """Whether a rule has a condition on this fact, and it matches."""
    if condition == "label":
        name, _, text = value.partition("=")
        return name in rule.conditions.label and fits((rule.conditions.label[name],), (text,))
    patterns: tuple[str, ...] = getattr(rule.conditions, condition)
    return bool(patterns) and (named_by(value, patterns) if condition == "image" else fits(patterns, (value,)))
