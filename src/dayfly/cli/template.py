"""`dayfly template`: make, list and remove the booted machines that jobs are cloned from."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import asdict

from dayfly import principal
from dayfly import settings as site
from dayfly.cli.listing import add_json, print_fields, print_json, print_table
from dayfly.cli.notices import warn
from dayfly.cli.parser import IMAGE_HELP, checked, counted, positive
from dayfly.errors import Refused
from dayfly.guest.boot import BootMode
from dayfly.image.search import Libraries
from dayfly.machine.command import MOST_SHARES
from dayfly.machine.config import BOOT_CHOICES, Network, Shape
from dayfly.machine.snapshot.description import parse
from dayfly.policy.permission import permit
from dayfly.policy.rules import MachineRequest
from dayfly.provision.templates import maintenance
from dayfly.provision.templates.creation import build, outdated
from dayfly.provision.templates.lookup import stores
from dayfly.provision.templates.maintenance import StoredTemplate
from dayfly.provision.templates.store import Kind
from dayfly.settings import Settings
from dayfly.units import format_duration, format_size, parse_size

DESCRIPTION = """\
Make, list and remove templates: booted machines that were saved, so that each job can clone one quickly. `dayfly run` makes them
as it needs them; these commands make them in advance, and manage them. There are the site's, and each user's own.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `dayfly template`."""
    below = parser.add_subparsers(metavar="COMMAND", required=True, title="commands", dest="template_command")

    def add(name: str, help_: str, act: Callable[[argparse.Namespace, Settings], int]) -> argparse.ArgumentParser:
        command = below.add_parser(name, help=help_, description=help_[0].upper() + help_[1:] + ".")
        command.set_defaults(act=act)
        return command

    _configure_build(add("build", "make the template for jobs of an image and a shape, unless it is there", _build))
    add_json(add("list", "list all templates, the last used first", _list))
    show = add("show", "show what a template is, and whether it is still what it was", _show)
    _add_template(show)
    add_json(show)
    _add_template(add("remove", "remove a template; machines that were cloned from it continue", _remove))
    collect = add("gc", "remove templates that no job will use any more, and the least recently used over the limit", _gc)
    _add_system(collect, "clean the site's templates, not your own")
    add_json(collect)


def _configure_build(build_parser: argparse.ArgumentParser) -> None:
    build_parser.add_argument("image", metavar="IMAGE", help=IMAGE_HELP)
    build_parser.add_argument("--cpus", type=positive, metavar="N", help="the machine's CPUs (default: machine.cpus)")
    build_parser.add_argument(
        "--memory", type=checked(parse_size), metavar="SIZE", help="its memory, like 2G (default: machine.memory)"
    )
    build_parser.add_argument(
        "--scratch", type=checked(parse_size), metavar="SIZE", help="the size of its scratch disk (default: scratch.size)"
    )
    build_parser.add_argument(
        "--network", type=Network, choices=list(Network), default=Network.NONE, help="none (the default), or nat"
    )
    build_parser.add_argument(
        "--boot", type=BootMode, choices=BOOT_CHOICES, help="what is init: agent, or system (default: what the image says)"
    )
    build_parser.add_argument(
        "--shares",
        type=counted(0, MOST_SHARES),
        default=1,
        metavar="N",
        help="how many folders its jobs share (default: 1, the working directory)",
    )
    _add_system(build_parser, "make it for all users of the site, not for yourself")


def _add_template(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("template", metavar="TEMPLATE", help="the beginning of its name; system/ or user/ before it says whose")


def _add_system(parser: argparse.ArgumentParser, help_: str) -> None:
    parser.add_argument("--system", action="store_const", dest="kind", const=Kind.SYSTEM, default=Kind.USER, help=help_)


def execute(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    status: int = arguments.act(arguments, site.load())
    return status


def _build(arguments: argparse.Namespace, settings: Settings) -> int:
    begun = time.monotonic()
    shape = Shape(arguments.cpus or settings.machine_cpus, arguments.memory or settings.machine_memory)
    with Libraries(settings).open(arguments.image) as image:
        permit(image, settings, principal.current(), MachineRequest(str(arguments.network), shape.cpus, shape.memory))
        template = build(
            image,
            settings,
            arguments.kind,
            shape=shape,
            scratch=arguments.scratch or settings.scratch_size,
            boot=arguments.boot,
            network=arguments.network,
            shares=arguments.shares,
            notify=warn,
        )
    template.close()
    sys.stderr.write(f"ready after {format_duration(time.monotonic() - begun)} in {template.folder}\n")
    sys.stdout.write(f"{template.name}\n")
    return 0


def _digests(settings: Settings) -> set[str]:
    return {image.digest for image in Libraries(settings).images()}


def _state(one: StoredTemplate, settings: Settings, digests: set[str]) -> str:
    if one.about is None:
        return f"damaged: {one.problem}"
    why = outdated(one.about, settings, digests)
    return f"outdated: {why}" if why else "ready"


def _list(arguments: argparse.Namespace, settings: Settings) -> int:
    digests = _digests(settings)
    found = [(one, _state(one, settings, digests)) for store in stores(settings) for one in maintenance.stored(store)]
    if arguments.json:
        print_json([_fields(one, state) for one, state in found])
    else:
        titles = ("TEMPLATE", "WHOSE", "IMAGE", "BOOT", "CPUS", "MEMORY", "SHARES", "NETWORK", "SIZE", "USED", "STATE")
        print_table(titles, [_row(one, state) for one, state in found], "no templates yet: the first job of an image makes one")
    return 0


def _row(one: StoredTemplate, state: str) -> tuple[str, ...]:
    used = f"{format_duration(max(0.0, time.time() - one.used))} ago"
    if one.about is None:
        return (one.name, one.kind, "-", "-", "-", "-", "-", "-", format_size(one.size), used, state)
    config = parse(one.about.snapshot).config
    shape = (str(config.boot), str(config.shape.cpus), format_size(config.shape.memory), str(len(config.shares)))
    return (one.name, one.kind, config.label, *shape, str(config.network), format_size(one.size), used, state)


def _fields(one: StoredTemplate, state: str) -> dict[str, object]:
    about = asdict(one.about) if one.about else None
    return {
        "name": one.name,
        "kind": str(one.kind),
        "folder": str(one.folder),
        "size": one.size,
        "used": one.used,
        "state": state,
        "template": about,
    }


def _show(arguments: argparse.Namespace, settings: Settings) -> int:
    one = maintenance.find(list(stores(settings)), arguments.template)
    wrong = maintenance.verify(one)
    state = f"damaged: {wrong}" if wrong else _state(one, settings, _digests(settings))
    if arguments.json:
        print_json(_fields(one, state))
        return 0
    fields = {
        "template": one.name,
        "whose": str(one.kind),
        "folder": str(one.folder),
        "state": state,
        "size": format_size(one.size),
    }
    if one.about is not None:
        config = parse(one.about.snapshot).config
        fields |= {
            "image": config.label,
            "digest": one.about.facts["image"],
            "cpus": str(config.shape.cpus),
            "memory": format_size(config.shape.memory),
            "scratch": format_size(one.about.scratch),
            "shares": str(len(config.shares)),
            "network": str(config.network),
            "boot": str(config.boot),
            "accelerator": str(config.accelerator),
            "cpu model": str(config.cpu),
            "qemu": one.about.qemu,
            "made": f"{one.about.made}, in {format_duration(one.about.seconds)}",
        }
        fields |= {f"{part} digest": file.digest for part, file in one.about.files.items()}
    print_fields(fields)
    return 0


def _remove(arguments: argparse.Namespace, settings: Settings) -> int:
    one = maintenance.find(list(stores(settings)), arguments.template)
    if not maintenance.remove(one.folder):
        raise Refused(f"{one.name} is being made", "try again when it is complete")
    sys.stdout.write(f"{one.name} removed\n")
    return 0


def _gc(arguments: argparse.Namespace, settings: Settings) -> int:
    store = next(store for store in stores(settings) if store.kind is arguments.kind)
    digests = _digests(settings)
    gone, left = maintenance.collect(
        store, settings.templates_limit, wanted=lambda one: one.about is not None and not outdated(one.about, settings, digests)
    )
    freed = sum(one.size for one in gone)
    if arguments.json:
        print_json({"removed": [one.name for one in gone], "freed": freed, "left": left})
        return 0
    for one in gone:
        sys.stdout.write(f"{one.name} removed\n")
    sys.stdout.write(f"{format_size(freed)} freed, {format_size(left)} left of at most {format_size(settings.templates_limit)}\n")
    return 0
