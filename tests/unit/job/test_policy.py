"""The policy: which rule decides, what it says, and how its file is read."""

from __future__ import annotations

import contextlib
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly import principal
from dayfly.cli import main
from dayfly.errors import DayflyError, FileErrors
from dayfly.image.reference import LibraryKind
from dayfly.policy import permission
from dayfly.policy.rules import (
    POLICY_LIMIT,
    WITHOUT_FILE,
    Caller,
    Conditions,
    Denied,
    Image,
    Limits,
    MachineRequest,
    Policy,
    Rule,
    Shared,
    decide,
)
from dayfly.policy.rules_file import parse
from dayfly.principal import Principal
from dayfly.settings import Settings
from dayfly.values import replace

DIGEST = "sha256:" + "ab" * 32
ADA = Caller(("1000", "ada"), ("1000", "ada", "50", "physics"), "atlas")
ROOT = Caller(("0",), ("0",))
SYSTEM = Image("system", ("system/debian:12", "system/debian:stable"), DIGEST)
OWN = Image("own", ("user/mine:1",), DIGEST, labels={"checked": "yes, twice"})
OTHER = Image("other", ("user/mine:1",), DIGEST)
WISH = MachineRequest("none", 1, 512 << 20)


def rules(text: str) -> Policy:
    return parse(text, "policy.toml")


def rule(conditions: str = "", limits: str = "", action: str = "allow") -> Policy:
    return rules(f'[[rule]]\naction = "{action}"\n{conditions}\nlimits = {{ {limits} }}')


def line_that_decides(policy: Policy, caller: Caller = ADA, image: Image = SYSTEM, wish: MachineRequest = WISH) -> int | None:
    decided = decide(policy, caller, image, wish).rule
    return decided.line if decided else None


def test_the_first_rule_that_holds_decides() -> None:
    policy = rules('# first\n[[rule]]\naction = "deny"\nuser = "bob"\n[[rule]]\naction = "allow"\n\n[[rule]]\naction="deny"\n')
    assert line_that_decides(policy) == 5
    assert line_that_decides(policy, Caller(("7", "bob"))) == 2
    assert decide(policy, ADA, SYSTEM, WISH).place == "the rule at line 5 of policy.toml"


def test_where_no_rule_holds_it_is_denied() -> None:
    decision = decide(rule('user = "bob"'), ADA, SYSTEM, WISH)
    assert not decision.allowed
    assert (
        str(decision.denied())
        == "the policy does not allow this: no rule is about the user ada and system/debian:12 (in policy.toml)"
    )
    assert not decide(rules(""), ADA, SYSTEM, WISH).allowed


@pytest.mark.parametrize(
    ("conditions", "image"),
    [
        ('user = "ada"', SYSTEM),
        ('user = ["bob", "a*"]', SYSTEM),
        ('user = "1000"', SYSTEM),
        ('group = "physics"', SYSTEM),
        ('group = "50"', SYSTEM),
        ('account = "at*"', SYSTEM),
        ('library = "system"', SYSTEM),
        ('library = ["own", "other"]', OTHER),
        ('image = "debian:12"', SYSTEM),
        ('image = "debian:st*"', SYSTEM),
        ('image = "user/*"', OWN),
        ('image = "*/mine:?"', OWN),
        (f'digest = "{DIGEST}"', OWN),
        ('label = { checked = "yes*" }', OWN),
        ('endorser = "/DC=org/*"', replace(OWN, endorsers=("/C=x", "/DC=org/CN=Ada"))),
        ('endorser = "/CN=Löve/Email=a@b"', replace(OWN, endorsers=("/CN=L\\xC3\\xB6ve/emailAddress=a@b",))),
        ('origin = "list:*"', replace(OWN, origins=("list:site",))),
        ('origin = "docker://registry.example.org/*"', replace(OWN, origins=("docker://registry.example.org/app:1",))),
        ('user = "ada"\ngroup = "ph*"\nlibrary = "own"', OWN),
    ],
)
def test_conditions(conditions: str, image: Image) -> None:
    assert decide(rule(conditions), ADA, image, WISH).allowed
    denies = decide(rules(f'[[rule]]\naction = "deny"\n{conditions}'), ADA, image, WISH)
    assert denies.against == ("a rule denies it",)


@pytest.mark.parametrize(
    ("conditions", "image"),
    [
        ('user = "bob"', SYSTEM),
        ('user = "ad"', SYSTEM),
        ('group = "chemistry"', SYSTEM),
        ('account = "cms"', SYSTEM),
        ('library = "own"', SYSTEM),
        ('image = "debian:13"', SYSTEM),
        ('image = "mine:1"', OWN),
        (f'digest = "sha256:{"cd" * 32}"', OWN),
        ('label = { checked = "yes" }', OWN),
        ('label = { other = "*" }', OWN),
        ('endorser = "*"', OWN),
        ('origin = "*"', OWN),
        ('origin = "docker://registry.example.org/*"', replace(OWN, origins=("docker://example.org/app:1", "local"))),
        ('user = "ada"\nlibrary = "system"', OWN),
    ],
)
def test_conditions_that_do_not_hold(conditions: str, image: Image) -> None:
    assert decide(rule(conditions), ADA, image, WISH).rule is None


LIMITS = [
    ("root = false", replace(WISH, root=True), "to be root in the machine"),
    ('network = "none"', replace(WISH, network="nat"), "the network nat (allowed: none)"),
    ('network = "nat"', WISH, "the network none (allowed: nat)"),
    ("cpus = 4", replace(WISH, cpus=5), "5 CPUs (at most 4)"),
    ('memory = "1G"', replace(WISH, memory=2 << 30), "2 GiB of memory (at most 1 GiB)"),
    ('time = "1h"', replace(WISH, time=3601.0), "60 min 1 s of time (at most 1 h 0 min)"),
    ("capture = false", replace(WISH, capture=True), "to capture the machine as an image"),
    ("shares = []", replace(WISH, shares=(Shared("/a", True, 7),)), "to share /a (allowed: nothing)"),
    ('shares = "/a:ro"', replace(WISH, shares=(Shared("/a", False, 7),)), "to share /a for writing (allowed: /a:ro)"),
    ('shares = ["/a", "/b:ro"]', replace(WISH, shares=(Shared("/ab", True, 7),)), "to share /ab (allowed: /a, /b:ro)"),
    (
        'root_shares = "ro"',
        replace(WISH, shares=(Shared("/a", False, 0),)),
        "to share /a for writing, which is root's (only with :ro)",
    ),
    ('root_shares = "none"', replace(WISH, shares=(Shared("/a", True, 0),)), "to share /a, which is root's"),
]


@pytest.mark.parametrize(("limits", "wish", "against"), LIMITS)
def test_limits(limits: str, wish: MachineRequest, against: str) -> None:
    decision = decide(rule(limits=limits), ADA, SYSTEM, wish)
    assert decision.against == (against.replace("60 min 1 s", "1 h 0 min"),)
    assert decide(rule(), ADA, SYSTEM, wish).allowed


@pytest.mark.parametrize(
    ("limits", "wish"),
    [
        ('shares = "/a"', replace(WISH, shares=(Shared("/a", False, 7), Shared("/a/b", True, 7)))),
        ('shares = "/"', replace(WISH, shares=(Shared("/a", False, 7),))),
        ('shares = "/a:ro"', replace(WISH, shares=(Shared("/a/b", True, 7),))),
        ('root_shares = "ro"', replace(WISH, shares=(Shared("/a", True, 0), Shared("/b", False, 7)))),
        ('cpus = 4\n, memory = "1G", time = "1h"'.replace("\n", ""), replace(WISH, cpus=4, memory=1 << 30, time=3600.0)),
    ],
)
def test_within_limits(limits: str, wish: MachineRequest) -> None:
    assert decide(rule(limits=limits), ADA, SYSTEM, wish).allowed


def test_everything_that_is_too_much_is_told_at_once() -> None:
    decision = decide(rule(limits='cpus = 1, network = "none"'), ADA, SYSTEM, replace(WISH, cpus=2, network="nat"))
    assert "nat" in str(decision.denied())
    assert "2 CPUs" in str(decision.denied())


def test_a_time_that_was_not_named_is_the_rules() -> None:
    assert decide(rule(limits='time = "1h"'), ADA, SYSTEM, WISH).time == 3600


def test_a_reason_is_told() -> None:
    policy = rules('[[rule]]\nname = "old ones"\naction = "deny"\nreason = "debian:12 has no updates any more"')
    assert str(decide(policy, ADA, SYSTEM, WISH).denied()) == (
        'the policy does not allow this: debian:12 has no updates any more (the rule "old ones" at line 1 of policy.toml)'
    )


ROOTS = Shared("/tmp", False, 0)


@pytest.mark.parametrize(
    ("caller", "image", "wish", "allowed"),
    [
        (ADA, SYSTEM, replace(WISH, network="nat", root=True, shares=(ROOTS,)), True),
        (ADA, OWN, replace(WISH, root=True, shares=(Shared("/home/ada", False, 1000), replace(ROOTS, readonly=True))), True),
        (ADA, OWN, replace(WISH, network="nat"), False),
        (ADA, OWN, replace(WISH, shares=(ROOTS,)), False),
        (ADA, OTHER, WISH, False),
        (ROOT, OWN, replace(WISH, network="nat", root=True, shares=(ROOTS,)), True),
        (ROOT, OTHER, WISH, False),
        (ROOT, SYSTEM, replace(WISH, network="nat"), True),
    ],
)
def test_a_site_without_a_policy(caller: Caller, image: Image, wish: MachineRequest, *, allowed: bool) -> None:
    assert decide(WITHOUT_FILE, caller, image, wish).allowed is allowed


def test_the_rules_of_a_site_without_a_policy_are_those_on_the_page() -> None:
    page = (Path(__file__).parent.parent.parent.parent / "docs/reference/policy.md").read_text()
    text = page.partition("## A site without a policy")[2].partition("```toml\n")[2].partition("```")[0]
    assert [replace(rule, line=0) for rule in rules(text).rules] == list(WITHOUT_FILE.rules)
    assert not WITHOUT_FILE.names_people


def test_people_are_looked_up_only_where_a_rule_names_them() -> None:
    assert rule('user = "ada"').names_people
    assert rule('group = "7"').names_people
    assert not rule('library = "own"\nuser = "0"').names_people


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        ("[[rule]", ["syntax"]),
        ("a = " + "[" * 20000, ["syntax"]),
        ("a = " + "9" * 5000, ["syntax"]),
        ('rules = []\n[[rule]]\naction = "deny"', ["rules"]),
        ("rule = 3", ["rule"]),
        ("[rule]\naction = 'allow'", ["rule"]),
        ("rule = [{action = 'allow'}]", ["rule"]),
        ("[['rule']]\naction = 'allow'", ["rule"]),
        ("[[rule]]\naction = 'allow'\nname = '''\n[[rule]]\n'''", ["rule"]),
        ("[[rule]]", ["line 1"]),
        ("\n[[rule]]\naction = 'maybe'\nuser = 7\nbogus = 1\n[[ rule ]] # two\naction = 'deny'\nlimits = 3", None),
        ("[[rule]]\naction = 'deny'\nlimits = { cpus = 1 }", ["line 1: limits"]),
        ("[[rule]]\naction = 'allow'\nreason = 'x'", ["line 1: reason"]),
        ("[[rule]]\naction = 'allow'\nimage = []", ["line 1: image"]),
        ("[[rule]]\naction = 'allow'\nimage = \"a\\nb\"", ["line 1: image"]),
        ("[[rule]]\naction = 'allow'\ndigest = 'sha256:12'", ["line 1: digest"]),
        ("[[rule]]\naction = 'allow'\nlabel = {}", ["line 1: label"]),
        ("[[rule]]\naction = 'allow'\nlimits = { shares = 'a' }", ["line 1: limits.shares"]),
        ("[[rule]]\naction = 'allow'\nlimits = { shares = '/a/../b' }", ["line 1: limits.shares"]),
        ("[[rule]]\naction = 'allow'\nlimits = { cpus = true }", ["line 1: limits.cpus"]),
        ("[[rule]]\naction = 'allow'\nlimits = { memory = 0x" + "f" * 5000 + " }", ["line 1: limits.memory"]),
        ("[[rule]]\naction = 'allow'\nlimits = { time = 1.5 }", ["line 1: limits.time"]),
        ("[[rule]]\naction = 'allow'\nlimits = { network = 'bridge' }", ["line 1: limits.network"]),
        ("[[rule]]\naction = 'allow'\n" * 1001, ["rule"]),
    ],
)
def test_errors_are_told_all_at_once_with_their_places(text: str, errors: list[str] | None) -> None:
    with pytest.raises(FileErrors) as caught:
        rules(text)
    places = [error.place for error in caught.value.errors]
    assert places == (errors or ["line 2: action", "line 2: user", "line 2: bogus", "line 6: limits"])
    assert len(str(caught.value)) < 10_000


@pytest.mark.parametrize("condition", sorted({field.name for field in fields(Conditions)} - {"library", "digest"}))
def test_a_pattern_that_means_not_in_other_programs_is_a_error(condition: str) -> None:
    """Each condition that takes patterns: it would hold for nobody, and a deny above all others would deny nobody."""
    for value in ('"!root"', '["a", "!root"]') if condition != "label" else ('{ checked = "!root" }',):
        with pytest.raises(FileErrors) as caught:
            rules(f"[[rule]]\naction = 'deny'\n{condition} = {value}")
        (error,) = caught.value.errors
        assert (error.place, error.message) == (f"line 1: {condition}", "'!root' begins with !")
        assert "write a rule about 'root' above this one" in error.hint


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
TEXTS = st.sampled_from(["user", "group", "account", "library", "image", "digest", "label", "limits", "action", "name", "x"])


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f'"k{index}" = {toml(inner)}' for index, inner in enumerate(value.values())) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return {True: "true", False: "false", None: '"none"'}.get(value, repr(value)) if not isinstance(value, str) else ascii(value)


@given(
    st.lists(
        st.dictionaries(TEXTS, st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner))),
        max_size=4,
    )
)
def test_whatever_a_file_says_it_is_a_policy_or_errors(tables: list[dict[str, Any]]) -> None:
    text = "".join("[[rule]]\n" + "".join(f"{name} = {toml(value)}\n" for name, value in table.items()) for table in tables)
    try:
        policy = rules(text)
    except FileErrors:
        return
    decision = decide(policy, ADA, SYSTEM, WISH)
    assert decision.allowed or str(decision.denied())


@given(st.text(max_size=200))
def test_any_text_is_a_policy_or_errors(text: str) -> None:
    with contextlib.suppress(FileErrors):
        assert rules(text).rules == ()


names = st.sampled_from(["a", "b", "c"])
some = st.lists(names, max_size=2).map(tuple)
conditions = st.builds(
    Conditions,
    user=some,
    group=some,
    account=some,
    library=st.sampled_from([(), ("own",), ("system",)]),
    origin=some,
    endorser=some,
)
policies = st.lists(
    st.builds(Rule, allow=st.booleans(), conditions=conditions, limits=st.builds(Limits, cpus=st.none() | st.just(1)))
)


@given(
    policies,
    st.builds(Caller, users=some.map(lambda users: users or ("z",)), groups=some, account=names),
    st.sampled_from([SYSTEM, OWN]),
    st.integers(1, 2),
)
def test_what_comes_after_the_rule_that_decides_changes_nothing(
    rules: list[Rule], caller: Caller, image: Image, cpus: int
) -> None:
    wish = replace(WISH, cpus=cpus)
    whole = decide(Policy(tuple(rules), "x"), caller, image, wish)
    if whole.rule is None:
        assert not whole.allowed
        return
    first = next(index for index, rule in enumerate(rules) if rule is whole.rule)
    assert decide(Policy(tuple(rules[: first + 1]), "x"), caller, image, wish).against == whole.against
    assert decide(Policy(tuple(rules[:first]), "x"), caller, image, wish).rule is None


@given(st.integers(1, 8), st.integers(1, 8))
def test_less_is_never_denied_where_more_is_allowed(asked: int, least: int) -> None:
    policy = rule(limits="cpus = 4, root = false")
    if decide(policy, ADA, SYSTEM, replace(WISH, cpus=max(asked, least))).allowed:
        assert decide(policy, ADA, SYSTEM, replace(WISH, cpus=min(asked, least))).allowed


ALLOWS = '[[rule]]\naction = "allow"\n'


def written(path: Path, text: str = ALLOWS, mode: int = 0o644) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_a_file_that_is_not_there_is_no_policy(tmp_path: Path) -> None:
    assert permission.read(str(tmp_path / "none.toml"), {0}) is None
    assert permission.read(str(tmp_path / "none/at/all.toml"), {0}) is None


def test_a_site_policy_that_the_settings_name_and_that_is_absent_denies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows what it would have denied. Where none is named, there need be none."""
    monkeypatch.setattr(permission, "POLICY_FILE", tmp_path / "none.toml")
    (policy,) = permission.policies(Settings(), principal.current())
    assert policy.rules == WITHOUT_FILE.rules
    with pytest.raises(Denied, match=r"none\.toml does not exist") as caught:
        permission.policies(Settings(policy_system=tmp_path / "none.toml"), principal.current())
    assert caught.value.hint == "policy.system of the site's settings names it"


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_can_write_denies(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path / "policy.toml", mode=mode)
    with pytest.raises(Denied, match="users other than"):
        permission.read(path, {os.getuid()})
    assert permission.read(path, None) is not None


def test_a_file_of_somebody_else_denies(tmp_path: Path) -> None:
    with pytest.raises(Denied, match="can write to"):
        permission.read(written(tmp_path / "policy.toml"), {os.getuid() + 1})


def test_what_cannot_be_read_denies(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(Denied, match="dangling link"):
        permission.read(str(tmp_path / "link"), {0})
    with pytest.raises(Denied, match="regular"):
        permission.read(str(tmp_path), {os.getuid()})
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(Denied, match="regular"):
        permission.read(str(tmp_path / "fifo"), {os.getuid()})
    (tmp_path / "latin").write_bytes(b"# \xff")
    with pytest.raises(FileErrors, match="UTF-8"):
        permission.read(str(tmp_path / "latin"), None)
    with pytest.raises(Denied, match="larger"):
        permission.read(written(tmp_path / "long", "#" * (POLICY_LIMIT + 1)), None)


@pytest.mark.skipif(os.getuid() == 0, reason="root reads everything")
def test_a_file_without_permission_denies(tmp_path: Path) -> None:
    with pytest.raises(Denied, match="ermission denied"):
        permission.read(written(tmp_path / "policy.toml", mode=0), {os.getuid()})


def test_a_users_own_policy_is_asked_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permission, "POLICY_FILE", tmp_path / "none.toml")
    settings = Settings(policy_user=tmp_path / "own.toml")
    with pytest.raises(Denied, match=r"own\.toml does not exist"):
        permission.policies(settings, principal.current())
    written(tmp_path / "own.toml")
    assert [len(policy.rules) for policy in permission.policies(settings, principal.current())] == [3, 1]


def test_folders_are_judged_by_where_they_lead(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/usr")
    found = permission.shared([(str(tmp_path / "link/share"), True), (str(tmp_path / "gone"), False)])
    assert found == (Shared("/usr/share", True, 0), Shared(str(tmp_path / "gone"), False, 0))


def test_whose_library(tmp_path: Path) -> None:
    you, somebody = Principal(os.getuid(), 0), Principal(os.getuid() + 1, 0)
    assert permission.whose(LibraryKind.SYSTEM, Settings(), you) == "system"
    assert permission.whose(LibraryKind.USER, Settings(library_user=tmp_path), you) == "own"
    assert permission.whose(LibraryKind.USER, Settings(library_user=tmp_path), somebody) == "other"


def check(tmp_path: Path, text: str, *words: str) -> int:
    return main(["policy", "check", "--file", written(tmp_path / "p.toml", text), *words])


def test_check_says_what_would_happen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = '# ours\n[[rule]]\naction = "allow"\ngroup = "physics"\nlimits = { cpus = 2, time = "1h" }\n'
    words = ("--user", "somebody", "--group", "physics", "--image", "nothing:1")
    assert check(tmp_path, text, *words) == 0
    out = capsys.readouterr().out
    because = "because: group physics (source: the users and groups of this host)\n"
    assert out == f"allowed\nby: the rule at line 2 of {tmp_path}/p.toml\n{because}ended after 1 h 0 min\n"
    assert check(tmp_path, text, *words, "--cpus", "3") == 1
    assert capsys.readouterr().out.startswith("denied: 3 CPUs (at most 2)\nby: the rule at line 2 of")
    assert check(tmp_path, text, *words[2:], "--user", "somebody", "--group", "x") == 0
    assert check(tmp_path, text, "--user", "somebody", "--image", "nothing:1", "--json") == 1
    assert '"allowed": false' in capsys.readouterr().out


def test_check_reads_the_file_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tmp_path, ALLOWS) == 0
    assert capsys.readouterr().out == f"{tmp_path}/p.toml: 1 rule, no errors\n"
    assert check(tmp_path, "[[rule]]\nx = 1") == 125
    assert "line 1: x: is unknown" in capsys.readouterr().err


def test_what_the_policy_denies_is_a_users_error() -> None:
    assert issubclass(Denied, DayflyError)
    assert Denied("x").exit_status == 125
