"""`dayfly trust`: follow signed lists of images, and publish one."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from dayfly import settings as site
from dayfly.cli.libraries import add_system
from dayfly.cli.listing import add_json, print_json, print_table
from dayfly.cli.notices import warn
from dayfly.cli.parser import IMAGE_HELP, Parser, checked
from dayfly.errors import DayflyError, Refused
from dayfly.image.library import Library
from dayfly.image.reference import parse
from dayfly.image.search import Libraries
from dayfly.image.trust import cosign, subscriptions
from dayfly.image.trust.fetch import absolute
from dayfly.image.trust.imagelist import one_line
from dayfly.image.trust.judging import day, list_problem, problem
from dayfly.image.trust.publish import LIST_NAME, About, Endorser, publish
from dayfly.image.trust.state import NAME, Entry, State, Subscription
from dayfly.image.trust.subscriptions import Updated, Wanted
from dayfly.settings import Settings
from dayfly.units import parse_duration
from dayfly.values import asdict

DESCRIPTION = """\
Follow signed lists of images, and publish one. The images of a list can be run as long as the list is valid: until it expires,
its subscription is removed, a newer version leaves an image out, or its signer's certificate is revoked.
"""
SUBSCRIBE = """\
Trust a signed list from now on, and fetch its images into a library: a HEPiX image list, signed by S/MIME. The first list says
which list it is and who issued its signer's certificate, unless you do.
"""
UPDATE = """\
Fetch the lists again, and the images that are new on them. A list that is not trusted changes nothing: the version before it
stays in force until it expires. For cron, or a timer.
"""
VERIFY = """\
Check the signatures of an image, which cosign keeps in an artifact beside it that is named sha256-DIGEST.sig, against the keys of
the library. What holds is noted: for rules of the policy the image is endorsed by key:NAME until the key is removed.
"""
PUBLISH = """\
Write images of your libraries into a folder, as files, with a signed list that names them. Put the folder where its address says.
"""


def configure(parser: Parser) -> None:
    """Add the arguments of `dayfly trust`."""
    below = parser.add_subparsers(metavar="COMMAND", required=True, title="commands", dest="trust_command")

    def add(name: str, help_: str, act: Callable[[argparse.Namespace, Settings], int], description: str = "") -> Parser:
        command: Parser = below.add_parser(name, help=help_, description=description or help_[0].upper() + help_[1:] + ".")
        command.set_defaults(act=act)
        return command

    _configure_subscribe(add("subscribe", "trust a signed list, and fetch its images", _subscribe, SUBSCRIBE))
    update = add("update", "fetch the lists anew, and what is new on them", _update, UPDATE)
    update.add_argument("name", metavar="NAME", nargs="?", help="only this one (default: all of the library)")
    add_system(update, "the site's subscriptions, not your own")
    add_json(add("list", "list the subscriptions of both libraries, and their images", _list))
    remove = add("remove", "remove a subscription; its images can no longer be run", _remove)
    remove.add_argument("name", metavar="NAME", help="which one, as `dayfly trust list` shows it")
    add_system(remove, "one of the site's subscriptions, not of your own")
    _configure_keys(add)
    _configure_publish(add("publish", "write images into a folder, with a signed list of them", _publish, PUBLISH))


def _configure_subscribe(parser: Parser) -> None:
    parser.add_argument("place", metavar="LIST", type=checked(absolute), help="where the list is: https://…, or a file")
    parser.add_argument(
        "--ca",
        action="append",
        required=True,
        metavar="TRUSTED",
        help="certificates of certification authorities: a file of PEM, or a folder as `openssl rehash` makes it; repeatable",
    )
    parser.add_argument(
        "--crl",
        action="append",
        default=[],
        metavar="REVOKED",
        help="their revocation lists: a file of PEM, or such a folder; repeatable. There must then be one of every authority",
    )
    parser.add_argument(
        "--endorser",
        action="append",
        required=True,
        type=one_line,
        metavar="DN",
        help="the name of who may sign the list, as it is in the certificate: /C=…/CN=…; repeatable",
    )
    parser.add_argument(
        "--issuer",
        default="",
        type=one_line,
        metavar="DN",
        help="the name of who issued that certificate (default: the issuer of the first list's)",
    )
    parser.add_argument(
        "--identifier", default="", metavar="TEXT", help="the list's dc:identifier (default: that of the first list)"
    )
    parser.add_argument("--name", metavar="NAME", help="what to call the subscription (default: the name of the list's file)")
    add_system(parser, "for the system library, not for your own")


def _configure_keys(add: Callable[..., Parser]) -> None:
    key = add("add-key", "trust what a key has signed, for `dayfly trust verify`", _add_key)
    key.add_argument("name", metavar="NAME", help="what to call it; rules of the policy know it as the endorser key:NAME")
    key.add_argument("file", metavar="FILE", type=Path, help="the public key, PEM, ECDSA over P-256: cosign.pub")
    add_system(key, "for the system library, not for your own")
    identity = add("add-identity", "trust somebody's signatures by certificates, for `dayfly trust verify`", _add_identity)
    identity.add_argument(
        "name", metavar="NAME", help="what to call them; rules of the policy know them as the endorser identity:NAME"
    )
    identity.add_argument(
        "--subject", metavar="TEXT", required=True, help="whom the certificates name: an address of mail, or a workflow's URI"
    )
    identity.add_argument("--issuer", metavar="URL", required=True, help="who confirms that: an OpenID provider's address")
    identity.add_argument(
        "--roots", metavar="FILE", type=Path, required=True, help="certificates of the authority (Fulcio's), PEM"
    )
    identity.add_argument(
        "--log-key", metavar="FILE", type=Path, required=True, help="the public key of the log (Rekor's), PEM, ECDSA over P-256"
    )
    add_system(identity, "for the system library, not for your own")
    gone = add("remove-key", "no longer trust a key or an identity", _remove_key)
    gone.add_argument("name", metavar="NAME", help="which one, as `dayfly trust list` shows it")
    add_system(gone, "one of the system library, not of your own")
    verify = add("verify", "check which keys have signed an image, and note it for the policy", _verify, VERIFY)
    verify.add_argument("image", metavar="IMAGE", type=checked(parse), help=IMAGE_HELP)
    add_json(verify)
    sign = add("sign", "sign an image with a key, as cosign does", _sign)
    sign.add_argument("image", metavar="IMAGE", type=checked(parse), help=IMAGE_HELP)
    sign.add_argument(
        "--key", metavar="FILE", type=Path, required=True, help="the key, PEM, ECDSA over P-256, without a passphrase"
    )


def _configure_publish(parser: Parser) -> None:
    parser.add_argument("images", metavar="IMAGE", nargs="+", type=checked(parse), help=IMAGE_HELP)
    parser.add_argument("--out", metavar="PATH", type=Path, required=True, help="the folder to write into")
    parser.add_argument("--uri", metavar="URL", required=True, help="the folder's address: https://…, or file:///…")
    parser.add_argument("--identifier", metavar="TEXT", required=True, help="what tells this list from all others, like a UUID")
    parser.add_argument("--cert", metavar="FILE", type=Path, required=True, help="the signer's certificate, PEM")
    parser.add_argument("--key", metavar="FILE", type=Path, required=True, help="its key, PEM")
    parser.add_argument("--passphrase-file", metavar="FILE", type=Path, help="a file with the key's passphrase")
    parser.add_argument(
        "--version", metavar="TEXT", default="", help="the list's version, a number that grows, like 1.10 (default: the time)"
    )
    parser.add_argument(
        "--expires", metavar="TIME", type=checked(parse_duration), default=30 * 86400.0, help="how long it holds (default: 30d)"
    )
    parser.add_argument("--title", metavar="TEXT", default="", help="what it is called (default: its identifier)")
    parser.add_argument("--description", metavar="TEXT", default="", help="what it is for")
    parser.add_argument("--source", metavar="TEXT", default="", help="who makes it")
    parser.add_argument("--email", metavar="TEXT", default="", help="the endorser's address")
    parser.add_argument("--creator", metavar="TEXT", default="", help="the endorser's name")


def execute(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    status: int = arguments.act(arguments, site.load())
    return status


def _progress(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _subscribe(arguments: argparse.Namespace, settings: Settings) -> int:
    name = arguments.name or re.sub(r"[^a-z0-9._-]+", "-", Path(arguments.place).name.partition(".")[0].lower()).strip("-._")
    if not NAME.fullmatch(name):
        raise Refused(f"{name!r} cannot be the name of a subscription", "use --name: lower-case letters, digits, . _ or -")
    wanted = Wanted(
        name=name,
        place=arguments.place,
        endorsers=tuple(arguments.endorser),
        authorities=tuple(_path(path) for path in arguments.ca),
        revocations=tuple(_path(path) for path in arguments.crl),
        identifier=arguments.identifier,
        issuer=arguments.issuer,
    )
    library = Libraries(settings).library(arguments.kind)
    return 0 if _done(name, lambda: subscriptions.subscribe(library, wanted, _progress)) else DayflyError.exit_status


def _path(text: str) -> str:
    path = Path(text).absolute()
    if not path.exists():
        raise Refused(f"{path} does not exist", "--ca and --crl need files or folders")
    return str(path)


def _done(name: str, what: Callable[[], Updated]) -> bool:
    """Fetch a list, and print the result. Returns whether it succeeded."""
    try:
        done = what()
    except DayflyError as error:
        warn(f"{name}: {error}")
        return False
    for note in done.notes:
        warn(f"{name}: {note}")
    accepted = done.accepted
    new = f"{len(done.entered)} new image{'' if len(done.entered) == 1 else 's'}"
    sys.stdout.write(f"{name}: version {accepted.version} of {accepted.endorser}, until {day(accepted.until)}, {new}\n")
    return True


def _update(arguments: argparse.Namespace, settings: Settings) -> int:
    library = Libraries(settings).library(arguments.kind)
    names = [arguments.name] if arguments.name else sorted(subscriptions.known(library).lists)
    if not names:
        _progress("no subscriptions: `dayfly trust subscribe` makes one")
    well = [_done(name, lambda name=name: subscriptions.update(library, name, _progress)) for name in names]  # type: ignore[misc]
    return 0 if all(well) else DayflyError.exit_status


def _remove(arguments: argparse.Namespace, settings: Settings) -> int:
    library = Libraries(settings).library(arguments.kind)
    left = subscriptions.remove(library, arguments.name)
    also = "; `dayfly image remove` removes them" if left else ""
    images = "its 1 image" if len(left) == 1 else f"its {len(left)} images"
    sys.stdout.write(f"{arguments.name} removed: {images} can no longer be run{also}\n")
    return 0


def _add_key(arguments: argparse.Namespace, settings: Settings) -> int:
    cosign.add_key(Libraries(settings).library(arguments.kind), _key_name(arguments.name), arguments.file)
    sys.stdout.write(f"{arguments.name} is trusted; `dayfly trust verify IMAGE` checks what it has signed\n")
    return 0


def _add_identity(arguments: argparse.Namespace, settings: Settings) -> int:
    name = _key_name(arguments.name)
    library = Libraries(settings).library(arguments.kind)
    cosign.add_identity(library, name, arguments.subject, arguments.issuer, arguments.roots, arguments.log_key)
    sys.stdout.write(f"{name} is trusted; `dayfly trust verify IMAGE` checks what they have signed\n")
    return 0


def _key_name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise Refused(f"{text!r} cannot be the name of a key", "lower-case letters, digits, . _ or -")
    return text


def _remove_key(arguments: argparse.Namespace, settings: Settings) -> int:
    cosign.remove_key(Libraries(settings).library(arguments.kind), arguments.name)
    sys.stdout.write(f"{arguments.name} is no longer trusted\n")
    return 0


def _verify(arguments: argparse.Namespace, settings: Settings) -> int:
    library, entry, _ = Libraries(settings).find(arguments.image)
    names = cosign.verify(library, entry.descriptor.digest)
    if arguments.json:
        print_json({"digest": entry.descriptor.digest, "library": str(library.kind), "signed_by": names})
        return 0
    sys.stdout.write(f"{entry.descriptor.digest}: signed by {', '.join(names)}\n")
    return 0


def _sign(arguments: argparse.Namespace, settings: Settings) -> int:
    library, entry, _ = Libraries(settings).find(arguments.image)
    digest = library.inspect(arguments.image)[0]
    cosign.sign(library, digest, entry.name, arguments.key)
    sys.stdout.write(f"signed, as {cosign.tag(digest)} in the {library.title}\n")
    return 0


def _list(arguments: argparse.Namespace, settings: Settings) -> int:
    libraries = Libraries(settings)
    found = [(library, subscriptions.known(library)) for library in (libraries.system, libraries.user)]
    if arguments.json:
        lists = [_fields(library, state, name) for library, state in found for name in sorted(state.lists)]
        keys_ = [_key_fields(library, state, name) for library, state in found for name in sorted(state.keys)]
        identities = [_identity_fields(library, state, name) for library, state in found for name in sorted(state.identities)]
        print_json({"lists": lists, "keys": keys_, "identities": identities})
        return 0
    rows = [_row(library, state, name) for library, state in found for name in sorted(state.lists)]
    titles = ("LIST", "LIBRARY", "VERSION", "UNTIL", "ENDORSER", "IMAGES", "STATE")
    print_table(titles, rows, "no subscriptions: `dayfly trust subscribe` makes one")
    keys = [_key_row(library, state, name) for library, state in found for name in sorted({*state.keys, *state.identities})]
    if keys:
        sys.stdout.write("\n")
        print_table(("KEY", "LIBRARY", "WHO", "HAS SIGNED"), keys, "")
    images = [row for library, state in found for row in _image_rows(library, state)]
    if images:
        sys.stdout.write("\n")
        print_table(("IMAGE", "LIBRARY", "DIGEST", "LIST", "STATE"), images, "")
    return 0


def _state(library: Library, name: str, subscription: Subscription) -> str:
    in_force = "in force, with a weak signature" if subscription.accepted.weak else "in force"
    return list_problem(library.layout, name, subscription, time.time(), weak=library.weak_lists) or in_force


def _row(library: Library, state: State, name: str) -> tuple[str, ...]:
    subscription = state.lists[name]
    accepted = subscription.accepted
    count = sum(1 for _, entry in _of(state, name) if not entry.stopped)
    return (
        name,
        str(library.kind),
        accepted.version,
        day(accepted.until)[:16],
        accepted.endorser,
        str(count),
        _state(library, name, subscription),
    )


def _of(state: State, name: str | None = None) -> list[tuple[str, Entry]]:
    return [
        (digest, entry) for digest, entries in state.images.items() for entry in entries if name is None or entry.list == name
    ]


def _image_rows(library: Library, state: State) -> list[tuple[str, ...]]:
    index, now = library.index(), time.time()
    rows: list[tuple[str, ...]] = []
    for digest, entry in sorted(_of(state), key=lambda item: (item[1].list, item[1].title)):
        here = "run" if index.starting(digest) else "not in the library"
        why = problem(library.layout, state, entry, now, weak=library.weak_lists)
        if why and digest in state.local:
            why = f"can be run, since it was here before; {why}"
        rows.append((entry.title or entry.identifier, str(library.kind), digest[7:19], entry.list, why or here))
    return rows


def _key_row(library: Library, state: State, name: str) -> tuple[str, ...]:
    signed = [digest[7:19] for digest, names in state.signed.items() if name in names]
    who = state.identities.get(name)
    return (state.endorser(name), str(library.kind), f"{who.subject} ({who.issuer})" if who else "-", ", ".join(signed) or "-")


def _key_fields(library: Library, state: State, name: str) -> dict[str, object]:
    signed = [digest for digest, names in state.signed.items() if name in names]
    return {"name": name, "library": str(library.kind), "key": state.keys[name], "signed": signed}


def _identity_fields(library: Library, state: State, name: str) -> dict[str, object]:
    signed = [digest for digest, names in state.signed.items() if name in names]
    return {"name": name, "library": str(library.kind), **asdict(state.identities[name]), "signed": signed}


def _fields(library: Library, state: State, name: str) -> dict[str, object]:
    subscription, now = state.lists[name], time.time()
    accepted = subscription.accepted
    return {
        "name": name,
        "library": str(library.kind),
        "place": subscription.place,
        "identifier": subscription.identifier,
        "version": accepted.version,
        "created": accepted.created,
        "until": accepted.until,
        "updated": accepted.updated,
        "endorser": accepted.endorser,
        "issuer": accepted.issuer,
        "weak": list(accepted.weak),
        "endorsers": list(subscription.endorsers),
        "ca": list(subscription.authorities),
        "crl": list(subscription.revocations),
        "problem": list_problem(library.layout, name, subscription, now, weak=library.weak_lists),
        "images": [
            {
                "digest": digest,
                "identifier": entry.identifier,
                "title": entry.title,
                "version": entry.version,
                "entered": entry.entered,
                "until": entry.until,
                "names": list(library.names(digest)),
                "local": digest in state.local,
                "problem": problem(library.layout, state, entry, now, weak=library.weak_lists),
            }
            for digest, entry in _of(state, name)
        ],
    }


def _publish(arguments: argparse.Namespace, settings: Settings) -> int:
    base = arguments.uri
    if absolute(base) != base:
        raise Refused(f"{base} is not the address of a folder", "https://… or file:///…")
    libraries = Libraries(settings)
    images = [(libraries.find(reference)[0], reference) for reference in arguments.images]
    endorser = Endorser(arguments.cert, arguments.key, arguments.passphrase_file, arguments.email, arguments.creator)
    about = About(
        identifier=arguments.identifier,
        base=base,
        seconds=arguments.expires,
        version=arguments.version,
        title=arguments.title,
        description=arguments.description,
        source=arguments.source,
    )
    made = publish(images, endorser, about, arguments.out, _progress)
    sys.stdout.write(
        f"{arguments.out / LIST_NAME}: version {made.version} of {made.endorser}, until {day(made.expires)}, "
        f"{len(made.images)} image{'' if len(made.images) == 1 else 's'}\n"
    )
    return 0
