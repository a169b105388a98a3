"""`dayfly policy`: the decisions of the site's policy, without starting anything."""

from __future__ import annotations

import argparse
import grp
import os
import pwd
import sys
from pathlib import Path

from dayfly import principal
from dayfly import settings as site
from dayfly.cli.listing import add_json, clean, print_json
from dayfly.cli.parser import IMAGE_HELP, Parser, checked, positive
from dayfly.errors import NotFound
from dayfly.image.reference import LibraryKind, Reference, parse
from dayfly.image.search import Libraries
from dayfly.image.trust.provenance import Stopped
from dayfly.job.description import Folder, parse_folder
from dayfly.machine.config import Network
from dayfly.policy import permission
from dayfly.policy.evidence import Fact, gather
from dayfly.policy.rules import WITHOUT_FILE, Caller, Decision, Facts, Image, MachineRequest, Policy, decide
from dayfly.settings import Settings
from dayfly.units import format_duration, parse_duration, parse_size
from dayfly.values import asdict

DESCRIPTION = """\
Show what the site's policy allows: whose jobs may use which image, with what. Nothing is started or changed.
"""
CHECK = """\
Show whether a machine like this would be allowed, by which rule, and by which facts. Each fact has its source. A rule of the
site's does not allow anything because of facts that the user could have written. Without an image, the files are checked, and
their errors are reported.
"""


def configure(parser: Parser) -> None:
    """Add the arguments of `dayfly policy`."""
    below = parser.add_subparsers(metavar="COMMAND", required=True, title="commands", dest="policy_command")
    check = below.add_parser("check", help="show what would happen, and by which rule", description=CHECK)
    check.set_defaults(act=_check)
    check.add_argument("--file", metavar="FILE", type=Path, help="ask this file, and not those that are in force")
    who = check.add_argument_group("who")
    who.add_argument("--user", metavar="USER", help="a user's name or number (default: you)")
    who.add_argument(
        "--group", metavar="GROUP", action="append", default=[], help="a group that the user is in as well; repeatable"
    )
    who.add_argument("--account", metavar="ACCOUNT", default="", help="the account of a batch job")
    what = check.add_argument_group("what")
    what.add_argument("--image", metavar="IMAGE", type=checked(parse), help=IMAGE_HELP)
    what.add_argument("--network", type=Network, choices=list(Network), default=Network.NONE, help="none (the default), or nat")
    what.add_argument(
        "--share",
        metavar="PATH[:ro]",
        action="append",
        default=[],
        type=checked(parse_folder),
        help="a folder that it shares (the working directory too has to be named); repeatable",
    )
    what.add_argument("--cpus", metavar="N", type=positive, help="its CPUs (default: machine.cpus)")
    what.add_argument("--memory", metavar="SIZE", type=checked(parse_size), help="its memory (default: machine.memory)")
    what.add_argument("--time", metavar="TIME", type=checked(parse_duration), help="how long it may take (default: no end)")
    what.add_argument("--root", action="store_true", help="the job is root in the machine")
    what.add_argument("--capture", action="store_true", help="the machine becomes an image afterwards")
    add_json(check)


def execute(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    status: int = arguments.act(arguments, site.load())
    return status


def _check(arguments: argparse.Namespace, settings: Settings) -> int:
    policies = _policies(arguments.file, settings)
    if arguments.image is None:
        return _files(policies, json=arguments.json)
    who = _caller(arguments)
    try:
        what, notes = _image(arguments.image, who, settings)
    except Stopped as error:
        return _stopped(error, json=arguments.json)
    request = MachineRequest(
        network=str(arguments.network),
        cpus=arguments.cpus or settings.machine_cpus,
        memory=arguments.memory or settings.machine_memory,
        shares=permission.shared((folder.path, folder.readonly) for folder in _folders(arguments.share)),
        time=arguments.time,
        root=arguments.root,
        capture=arguments.capture,
    )
    known = [permission.trusted_facts(policy, who, what, settings, arguments.account) for policy in policies]
    decisions = [decide(policy, who, what, request, trusted) for policy, trusted in zip(policies, known, strict=True)]
    facts = [
        gather(decision.policy, decision.rule, Facts(who, what), trusted)
        for decision, trusted in zip(decisions, known, strict=True)
    ]
    allowed = all(decision.allowed for decision in decisions)
    if arguments.json:
        shown = [_fields(decision, of) for decision, of in zip(decisions, facts, strict=True)]
        print_json({"allowed": allowed, "notes": notes, "decisions": shown})
    else:
        for note in notes:
            sys.stderr.write(f"{clean(note)}\n")
        sys.stdout.write("".join(_lines(decision, of) for decision, of in zip(decisions, facts, strict=True)))
    return 0 if allowed else 1


def _stopped(error: Stopped, *, json: bool) -> int:
    """The output for an image that no list endorses any more: no policy is checked."""
    if json:
        print_json({"allowed": False, "notes": [error.message], "decisions": []})
    else:
        sys.stdout.write(f"denied: {clean(error.message)}\nby: the signed list that the image came by\n")
    return 1


def _folders(folders: list[Folder]) -> list[Folder]:
    """Folders without duplicates; the last one counts, as for a job."""
    return list({folder.path: folder for folder in folders}.values())


def _policies(file: Path | None, settings: Settings) -> list[Policy]:
    if file is None:
        return permission.policies(settings, principal.current())
    found = permission.read(str(file), None)
    if found is None:
        raise NotFound(f"there is no file {file}", "--file takes a policy's file")
    return [found]


def _files(policies: list[Policy], *, json: bool) -> int:
    if json:
        print_json([{"policy": policy.place, "rules": len(policy.rules)} for policy in policies])
        return 0
    for policy in policies:
        rules = f"{len(policy.rules)} rule{'' if len(policy.rules) == 1 else 's'}"
        sys.stdout.write(f"{policy.place}: {rules}" + ("\n" if policy.rules == WITHOUT_FILE.rules else ", no errors\n"))
    return 0


def _caller(arguments: argparse.Namespace) -> Caller:
    """The caller in question: this user, or another one with the groups on this host."""
    if arguments.user is None:
        you = permission.caller(principal.current(), arguments.account)
        return Caller(you.users, (*you.groups, *arguments.group), arguments.account)
    try:
        entry = pwd.getpwuid(int(arguments.user)) if arguments.user.isdecimal() else pwd.getpwnam(arguments.user)
    except (KeyError, OverflowError):
        return Caller((arguments.user,), tuple(arguments.group), arguments.account)
    names = {group.gr_gid: group.gr_name for group in grp.getgrall()}
    gids = os.getgrouplist(entry.pw_name, entry.pw_gid)
    groups = [text for gid in gids for text in (str(gid), names.get(gid, f"group{gid}"))]
    return Caller((str(entry.pw_uid), entry.pw_name), (*groups, *arguments.group), arguments.account)


def _image(wanted: Reference, who: Caller, settings: Settings) -> tuple[Image, list[str]]:
    """The image in question, as far as it is known here; and notes about that."""
    somebody_else = str(os.getuid()) not in who.users
    try:
        library, entry, notice = Libraries(settings).find(wanted)
    except NotFound:
        library = None
    if library is not None and not (somebody_else and library.kind is LibraryKind.USER):
        digest, _, config = library.inspect(Reference(wanted.name, entry.descriptor.digest, library.kind))
        provenance = library.provenance(digest, entry.name)
        found = permission.known(
            library.kind, library.names(digest), digest, config.labels, provenance, settings, principal.current()
        )
        return found, [notice] if notice else []
    if wanted.name is None:
        raise NotFound(f"there is no image {wanted}", "`dayfly image list` shows the images; others are checked by name")
    kind = wanted.library or (LibraryKind.SYSTEM if library is None else library.kind)
    name = f"{kind}/{wanted.name}"
    whose = "system" if kind is LibraryKind.SYSTEM else "own"
    why = (
        f"{who.users[-1]}'s own images are not known here"
        if somebody_else and whose == "own"
        else "it is in none of the libraries"
    )
    return Image(whose, (name,), wanted.digest), [f"{name} is checked by its name only: {why}"]


def _lines(decision: Decision, facts: list[Fact]) -> str:
    verdict = "allowed" if decision.allowed else f"denied: {clean('; '.join(decision.against))}"
    end = f"ended after {format_duration(decision.time)}\n" if decision.allowed and decision.time is not None else ""
    used = "".join(_line("because", fact) for fact in facts if fact.used)
    left = "".join(_line("does not count", fact) for fact in facts if not fact.counts and not fact.used)
    return f"{verdict}\nby: {clean(decision.place)}\n{used}{left}{end}"


def _line(what: str, fact: Fact) -> str:
    return f"{what}: {fact.condition} {clean(fact.value)} (source: {fact.source})\n"


def _fields(decision: Decision, facts: list[Fact]) -> dict[str, object]:
    rule = decision.rule
    return {
        "policy": decision.policy.place,
        "allowed": decision.allowed,
        "against": list(decision.against),
        "line": rule.line if rule and rule.line else None,
        "rule": rule.name if rule else None,
        "time": decision.time if decision.allowed else None,
        "facts": [asdict(fact) for fact in facts],
    }
