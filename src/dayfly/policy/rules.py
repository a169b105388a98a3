"""What a site allows: rules about the caller, the image and the request. Pure. docs/reference/policy.md describes them.

The first rule whose conditions all hold decides: it denies, or allows within its limits. If none holds, the request is denied.
This is on the hot path of every job; the parser is apart, in `dayfly.policy.rules_file`.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from dayfly.errors import Refused
from dayfly.image.reference import named_by
from dayfly.units import format_duration, format_size
from dayfly.values import dataclass, field, replace

TYPE_CHECKING = False  # typing's own costs an import at every start, and checkers know the name
if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = "0"
POLICY_LIMIT = 1024 * 1024
"""The largest size of a file of rules, in bytes."""


class Denied(Refused):
    """The policy does not allow it."""


@dataclass(frozen=True)
class Caller:
    """The caller: the user and the groups, each by number and, where known, by name; the account of a batch job.

    The last of `users` is what messages call the user.
    """

    users: tuple[str, ...]
    groups: tuple[str, ...] = ()
    account: str = ""


@dataclass(frozen=True)
class Image:
    """An image and its library: `system`, `own` (the caller's), or `other` (another user's).

    `names` are all its names there, with the library: `system/debian:12`. `origins` say how it came there. `endorsers` are
    those who signed for it, on a signed list that is valid or by a signature.
    """

    library: str
    names: tuple[str, ...]
    digest: str = ""
    origins: tuple[str, ...] = ()
    endorsers: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """What conditions are about: the caller and the image."""

    caller: Caller
    image: Image


@dataclass(frozen=True)
class Shared:
    """A folder of the host by its real path; `owner` is its owner's uid."""

    path: str
    readonly: bool
    owner: int


@dataclass(frozen=True)
class MachineRequest:
    """The machine that is asked for. Memory is in bytes, time in seconds (None: no limit was given)."""

    network: str
    cpus: int
    memory: int
    shares: tuple[Shared, ...] = ()
    time: float | None = None
    root: bool = False
    capture: bool = False


@dataclass(frozen=True)
class Conditions:
    """When a rule holds: all conditions that are not empty must hold. Texts are patterns (`*`, `?`, `[…]`); one of them must
    match.
    """

    user: tuple[str, ...] = ()
    group: tuple[str, ...] = ()
    account: tuple[str, ...] = ()
    library: tuple[str, ...] = ()
    image: tuple[str, ...] = ()
    digest: tuple[str, ...] = ()
    endorser: tuple[str, ...] = ()
    origin: tuple[str, ...] = ()
    label: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """What a rule allows at most. None: no limit. `root_shares` says how root's own folders may be shared: `rw`, `ro` or
    `none`.
    """

    root: bool = True
    network: tuple[str, ...] | None = None
    shares: tuple[str, ...] | None = None
    root_shares: str = "rw"
    cpus: int | None = None
    memory: int | None = None
    time: float | None = None
    capture: bool = True


@dataclass(frozen=True)
class Rule:
    """One rule. `line` is its line in the file, `name` its name there, `reason` the message for those whom it denies."""

    allow: bool
    conditions: Conditions = Conditions()
    limits: Limits = Limits()
    name: str = ""
    reason: str = ""
    line: int = 0


@dataclass(frozen=True)
class Policy:
    """Rules in their order, and the file that has them. `site` is false for the user's own policy."""

    rules: tuple[Rule, ...]
    place: str
    sites: bool = True

    def asks(self, *conditions: str) -> bool:
        """Whether a rule has one of these conditions."""
        return any(getattr(rule.conditions, name) for rule in self.rules for name in conditions)

    @property
    def names_people(self) -> bool:
        """Whether a rule has conditions on the names of users or groups; looking those up may need a directory service."""
        return any(rule.conditions.group or set(rule.conditions.user) - {ROOT} for rule in self.rules)


WITHOUT_FILE = Policy(
    (
        Rule(allow=True, conditions=Conditions(library=("system",)), name="the site's images"),
        Rule(allow=True, conditions=Conditions(library=("own",), user=(ROOT,)), name="root's own images"),
        Rule(
            allow=True,
            conditions=Conditions(library=("own",)),
            limits=Limits(network=("none",), root_shares="ro"),
            name="images of one's own",
        ),
    ),
    "the rules of a site without a policy",
)
"""The rules of a site without a policy (docs/decisions/0076)."""


@dataclass(frozen=True)
class Decision:
    """A policy's decision: the rule that decided (None: no rule holds), and the reasons against the request (empty: it is
    allowed).

    `time` is how long the machine may exist, in seconds.
    """

    policy: Policy
    rule: Rule | None
    against: tuple[str, ...] = ()
    time: float | None = None

    @property
    def allowed(self) -> bool:
        """Whether the request is allowed."""
        return not self.against

    @property
    def by_content(self) -> bool:
        """Whether it is allowed for the image's content, whoever can write to its library. Then the content must not change until
        the job's end.
        """
        conditions = self.rule.conditions if self.rule else Conditions()
        return self.allowed and bool(conditions.digest or conditions.endorser or conditions.origin)

    @property
    def place(self) -> str:
        """Which rule it is and where, for messages."""
        if self.rule is None:
            return f"in {self.policy.place}"
        name = f'the rule "{self.rule.name}"' if self.rule.name else "the rule"
        return f"{name} at line {self.rule.line} of {self.policy.place}" if self.rule.line else f"{name} in {self.policy.place}"

    def denied(self) -> Denied:
        """The error for the user."""
        return Denied(f"the policy does not allow this: {'; '.join(self.against)}", self.place)


def decide(policy: Policy, caller: Caller, image: Image, request: MachineRequest, trusted: Facts | None = None) -> Decision:
    """Decide by a policy. `trusted` are the facts that the user cannot have written (None: all of them).

    A rule allows by these alone, and denies by all facts: what users wrote counts only against them.
    """
    said = Facts(caller, image)
    every = _united(said, trusted) if trusted else said
    for rule in policy.rules:
        if _holds(rule.conditions, (trusted or said) if rule.allow else every):
            return _by(policy, rule, request)
    against = f"no rule is about the user {caller.users[-1]} and {_of_whom(image)}"
    would = next((rule for rule in policy.rules if rule.allow and _holds(rule.conditions, said)), None)
    if would is not None:
        against += f"; {Decision(policy, would).place} is, but only by facts that a user could have written"
    return Decision(policy, None, (against,))


def _united(said: Facts, trusted: Facts) -> Facts:
    """All facts about an image and the caller, from any source."""
    one, other = said.image, trusted.image
    origins, endorsers = (*one.origins, *other.origins), (*one.endorsers, *other.endorsers)
    return Facts(said.caller, replace(one, origins=origins, endorsers=endorsers))


def _of_whom(image: Image) -> str:
    name = image.names[0] if image.names else image.digest
    return f"{name} in another user's library" if image.library == "other" else name


def _by(policy: Policy, rule: Rule, request: MachineRequest) -> Decision:
    if not rule.allow:
        return Decision(policy, rule, (rule.reason or "a rule denies it",))
    return Decision(policy, rule, tuple(_against(rule.limits, request)), rule.limits.time)


def _holds(conditions: Conditions, facts: Facts) -> bool:
    caller, image = facts.caller, facts.image
    return (
        fits(conditions.library, (image.library,))
        and fits(conditions.user, caller.users)
        and fits(conditions.group, caller.groups)
        and fits(conditions.account, (caller.account,))
        and (not conditions.image or any(named_by(name, conditions.image) for name in image.names))
        and fits(conditions.digest, (image.digest,))
        and fits(conditions.endorser, image.endorsers)
        and fits(conditions.origin, image.origins)
        and all(name in image.labels and fits((glob,), (image.labels[name],)) for name, glob in conditions.label.items())
    )


def fits(patterns: Sequence[str], texts: Sequence[str]) -> bool:
    """Whether one of the patterns matches one of the texts. No patterns match everything."""
    return not patterns or any(text == pattern or fnmatchcase(text, pattern) for pattern in patterns for text in texts)


def _against(limits: Limits, request: MachineRequest) -> list[str]:
    """The parts of a request that exceed the limits."""
    against = [] if limits.root or not request.root else ["to be root in the machine"]
    if limits.network is not None and request.network not in limits.network:
        against.append(f"the network {request.network} (allowed: {', '.join(limits.network) or 'none'})")
    against += [why for share in request.shares for why in _against_share(limits, share)]
    if limits.cpus is not None and request.cpus > limits.cpus:
        against.append(f"{request.cpus} CPUs (at most {limits.cpus})")
    if limits.memory is not None and request.memory > limits.memory:
        against.append(f"{format_size(request.memory)} of memory (at most {format_size(limits.memory)})")
    if limits.time is not None and request.time is not None and request.time > limits.time:
        against.append(f"{format_duration(request.time)} of time (at most {format_duration(limits.time)})")
    return against + ([] if limits.capture or not request.capture else ["to capture the machine as an image"])


def _against_share(limits: Limits, share: Shared) -> list[str]:
    shown = share.path if share.readonly else f"{share.path} for writing"
    if limits.shares is not None and not any(_within(share, allowed) for allowed in limits.shares):
        return [f"to share {shown} (allowed: {', '.join(limits.shares) or 'nothing'})"]
    if share.owner == 0 and (limits.root_shares == "none" or (limits.root_shares == "ro" and not share.readonly)):
        instead = " (only with :ro)" if limits.root_shares == "ro" else ""
        return [f"to share {shown}, which is root's{instead}"]
    return []


def _within(share: Shared, allowed: str) -> bool:
    """Whether a folder is the allowed one or in it."""
    folder = allowed.removesuffix(":ro").removesuffix(":rw").rstrip("/")
    return (share.path == (folder or "/") or share.path.startswith(f"{folder}/")) and (
        share.readonly or not allowed.endswith(":ro")
    )
