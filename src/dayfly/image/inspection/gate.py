"""The conditions that fail an inspection: `--fail-on`. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum

from dayfly.errors import Refused
from dayfly.image.inspection.accounts import Password
from dayfly.image.inspection.image import Inspected
from dayfly.values import dataclass

EXIT_STATUS = 3
"""The exit status of `dayfly image inspect` if a condition is met."""


class Kind(StrEnum):
    """What a condition is about."""

    PASSWORDS = "passwords"
    KEYS = "keys"
    HOST_KEYS = "host-keys"
    SETUID = "setuid"
    CAPABILITIES = "capabilities"
    LISTENING = "listening"
    VULNERABLE = "vulnerable"
    UNSIGNED = "unsigned"
    STOPPED = "stopped"
    AGE = "age"


_SECTIONS = {
    Kind.PASSWORDS: {"accounts"},
    Kind.KEYS: {"accounts", "keys", "ssh"},
    Kind.LISTENING: {"services", "ssh"},
    Kind.VULNERABLE: {"packages", "vulnerabilities", "os"},
}
"""The sections of a report that must have been read for a condition to count as not met."""


@dataclass(frozen=True)
class Condition:
    """One condition; `days` is the greatest age in `age>DAYS`."""

    kind: Kind
    days: int = 0

    def __str__(self) -> str:
        return f"{self.kind}>{self.days}" if self.kind is Kind.AGE else str(self.kind)


@dataclass(frozen=True)
class Failure:
    """A condition that is met, and the reason."""

    condition: str
    why: str


def parse(text: str) -> tuple[Condition, ...]:
    """Read `passwords,host-keys,age>90`. Raises `Refused`."""
    return tuple(dict.fromkeys(_condition(word.strip()) for word in text.split(",")))


def _condition(word: str) -> Condition:
    if match := re.fullmatch(r"age>([0-9]{1,6})", word):
        return Condition(Kind.AGE, int(match[1]))
    if word in set(Kind) - {Kind.AGE}:
        return Condition(Kind(word))
    known = ", ".join(kind for kind in Kind if kind is not Kind.AGE)
    raise Refused(f"{word!r} is not a condition", f"one of: {known}, age>DAYS")


def judge(found: Inspected, conditions: Iterable[Condition]) -> list[Failure]:
    """The conditions that an image meets. A condition whose files could not be read counts as met."""
    failures: list[Failure] = []
    for condition in conditions:
        failures += [Failure(str(condition), why) for why in _reasons(found, condition)]
        failures += [
            Failure(str(condition), f"{noted.path} could not be read: {noted.why}")
            for noted in found.contents.unread
            if noted.section in _SECTIONS.get(condition.kind, ())
        ]
    return failures


def _reasons(found: Inspected, condition: Condition) -> list[str]:
    inside = found.contents
    match condition.kind:
        case Kind.PASSWORDS:
            words = {Password.SET: "has a password", Password.EMPTY: "needs no password"}
            return [f"{account.name} {words[account.password]}" for account in inside.accounts if account.password in words]
        case Kind.KEYS:
            return [f"{key.path}: {key.type} {key.fingerprint} allows login as {key.user}" for key in inside.keys]
        case Kind.HOST_KEYS:
            return [f"{key.path} is in the image" for key in inside.host_keys]
        case Kind.SETUID:
            return [f"{file.path} has the mode {file.mode}" for file in inside.setid]
        case Kind.CAPABILITIES:
            return [f"{file.path} has {', '.join(file.capabilities)}" for file in inside.capabilities]
        case _:
            return _more_reasons(found, condition)


def _more_reasons(found: Inspected, condition: Condition) -> list[str]:
    inside = found.contents
    match condition.kind:
        case Kind.LISTENING:
            return [f"{one.unit} listens on {one.address}" for one in inside.listeners if one.network and found.starts_services]
        case Kind.VULNERABLE:
            return [f"{one.package} {one.version} has {one.id}" for one in inside.vulnerabilities or ()]
        case Kind.UNSIGNED:
            return [] if found.endorsers else ["no trusted key or list has signed it"]
        case Kind.STOPPED:
            return [found.stopped] if found.stopped else []
        case _:
            return [f"it is {found.age_days} days old"] if found.age_days > condition.days else []
