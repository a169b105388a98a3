"""`dayfly image`: build, import, push, pull, copy, list, inspect, check and remove images."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dayfly import settings as site
from dayfly.cli.libraries import add_image, add_system
from dayfly.cli.listing import add_json, print_fields, print_json, print_table
from dayfly.cli.notices import warn
from dayfly.cli.parser import Command, Parser, checked
from dayfly.errors import DayflyError, NotFound
from dayfly.image.library import Library, Listed
from dayfly.image.origin import Origin, origins
from dayfly.image.reference import LibraryKind, Reference, parse, parse_name
from dayfly.image.search import Libraries
from dayfly.image.trust.provenance import Stopped
from dayfly.settings import Settings
from dayfly.units import format_size
from dayfly.values import asdict

DESCRIPTION = """\
Build, import, push, pull, copy, list, inspect, check and remove images. There are two libraries: the system's, which the
site's administrator maintains, and your own. A name that is in both means the system's image; system/NAME and user/NAME name
one of them.
"""


def configure(parser: Parser) -> None:
    """Add the arguments of `dayfly image`."""
    parser.add_commands(
        "image_command",
        (
            Command("build", "build an image from a recipe", _build, _configure_build),
            Command("import", "make an image from a container image or a disk", _import, _configure_import),
            Command("push", "bring an image to a registry", _push, _configure_push),
            Command("pull", "bring an image from a registry", _pull, _configure_pull),
            Command("copy", "copy an image between libraries, registries, or the one and the other", _copy, _configure_copy),
            Command("list", "list the images of both libraries", _list, add_json),
            Command("show", "show what an image is made of", _show, _configure_show),
            Command(
                "inspect",
                "show what is in an image: packages, accounts, keys, privileges, services; nothing is booted",
                _inspect,
                _configure_inspect,
            ),
            Command("verify", "read the files of images again and compare them with their digests", _verify, _configure_verify),
            Command("remove", "remove an image's name, or by its digest the image under all its names", _remove, add_image),
            Command("gc", "free the space of files that no image and no machine needs any more", _gc, _configure_gc),
        ),
    )


def _configure_build(parser: Parser) -> None:
    parser.add_argument(
        "recipe", metavar="RECIPE", nargs="?", help="a recipe that comes with Dayfly, like debian:12, or the path of a recipe"
    )
    parser.add_argument(
        "--name", type=checked(parse_name), metavar="NAME:TAG", help="name the image so (default: as the recipe says)"
    )
    parser.add_argument("--list", action="store_true", help="list the recipes that come with Dayfly, and build nothing")
    add_system(parser, "add it to the system library, not to your own")


def _configure_import(parser: Parser) -> None:
    from dayfly.cli.importing import configure_import  # noqa: PLC0415 (not for the other commands)

    configure_import(parser)


def _import(arguments: argparse.Namespace, settings: Settings) -> int:
    from dayfly.cli.importing import import_image  # noqa: PLC0415 (not for the other commands)

    return import_image(arguments, settings)


def _configure_push(parser: Parser) -> None:
    from dayfly.cli.registry import configure_push  # noqa: PLC0415 (not for the other commands)

    configure_push(parser)


def _push(arguments: argparse.Namespace, settings: Settings) -> int:
    from dayfly.cli.registry import push  # noqa: PLC0415 (not for the other commands)

    return push(arguments, settings)


def _configure_pull(parser: Parser) -> None:
    from dayfly.cli.registry import configure_pull  # noqa: PLC0415 (not for the other commands)

    configure_pull(parser)


def _pull(arguments: argparse.Namespace, settings: Settings) -> int:
    from dayfly.cli.registry import pull  # noqa: PLC0415 (not for the other commands)

    return pull(arguments, settings)


def _configure_copy(parser: Parser) -> None:
    from dayfly.cli.registry import configure_copy  # noqa: PLC0415 (not for the other commands)

    configure_copy(parser)


def _copy(arguments: argparse.Namespace, settings: Settings) -> int:
    from dayfly.cli.registry import copy  # noqa: PLC0415 (not for the other commands)

    return copy(arguments, settings)


def _configure_show(parser: Parser) -> None:
    add_image(parser)
    add_json(parser)


def _configure_inspect(parser: Parser) -> None:
    add_image(parser)
    parser.add_argument(
        "--osv",
        metavar="PATH",
        type=Path,
        help="look for known problems of its packages in this file or folder, in the OSV format",
    )
    parser.add_argument(
        "--fail-on",
        metavar="KIND[,KIND...]",
        help="exit with 3 where the image has any of: passwords, keys, host-keys, setuid, capabilities, listening, vulnerable, "
        "unsigned, stopped, or age>DAYS",
    )
    add_json(parser)


def _configure_verify(parser: Parser) -> None:
    parser.add_argument("image", metavar="IMAGE", nargs="?", type=checked(parse), help="only this one (default: all)")
    add_json(parser)


def _configure_gc(parser: Parser) -> None:
    parser.add_argument("--unnamed", action="store_true", help="remove the images that have no name too")
    add_system(parser, "clean the system library, not your own")
    add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    status: int = arguments.act(arguments, site.load())
    return status


def _build(arguments: argparse.Namespace, settings: Settings) -> int:
    from dayfly.app.build import build  # noqa: PLC0415 (not for the other commands)
    from dayfly.cli.progress import Progress  # noqa: PLC0415 (not for the other commands)
    from dayfly.imagebuild import recipe  # noqa: PLC0415 (not for the other commands)

    if arguments.list:
        print_table(("RECIPE", "FILE"), [(name, str(path)) for name, path in sorted(recipe.shipped().items())], "no recipes")
        return 0
    if arguments.recipe is None:
        raise NotFound("no recipe was given", "`dayfly image build --list` shows the recipes that come with Dayfly")
    wanted = recipe.find(arguments.recipe)
    progress = Progress()
    name, digest = build(wanted, arguments.kind, settings, progress, warn, arguments.name)
    progress.done(name, digest)
    return 0


def _list(arguments: argparse.Namespace, settings: Settings) -> int:
    images = Libraries(settings).images()
    if arguments.json:
        print_json([asdict(image) for image in images])
    else:
        titles = ("IMAGE", "LIBRARY", "DIGEST", "OS", "BOOT", "SIZE", "CREATED")
        print_table(titles, [_row(image) for image in images], "no images yet: `dayfly image build debian:12` makes one")
    return 0


def _row(image: Listed) -> tuple[str, ...]:
    digest = image.digest[7:19]
    if image.config is None:
        return (image.name or "-", image.library, digest, f"cannot be run: {image.problem}", "", "", "")
    config = image.config
    system = config.os.pretty_name or config.os.id
    return (image.name or "-", image.library, digest, system, config.boot, format_size(image.size), config.created[:10])


def _show(arguments: argparse.Namespace, settings: Settings) -> int:
    import shlex  # noqa: PLC0415 (not for the other commands)

    library, _, notice = Libraries(settings).find(arguments.image)
    digest, manifest, config = library.inspect(arguments.image)
    layers = {
        str(layer.role): {"digest": layer.digest, "size": layer.size, "type": layer.media_type} for layer in manifest.layers
    }
    came, endorsers, problem = _provenance(library, digest)
    if arguments.json:
        shown = {"library": library.kind, "digest": digest, "config": asdict(config), "layers": layers}
        stands = {"origins": [asdict(origin) for origin in came], "endorsers": endorsers, "problem": problem}
        print_json({**shown, **stands})
        return 0
    if notice:
        warn(notice)
    fields = {
        "image": str(arguments.image),
        "library": library.title,
        "origin": "; ".join(map(str, came)) or f"by a list; {problem}",
        "endorsed by": ", ".join(endorsers) or "-",
        "digest": digest,
        "os": f"{config.os.pretty_name or config.os.id} ({config.os.id} {config.os.version or '-'})",
        "kernel version": config.kernel.version or "-",
        "boot": config.boot,
        "files": format_size(config.size),
        "created": config.created,
        "recipe": config.recipe or "-",
        "parent": f"{config.parent.name or '-'}, {config.parent.digest}" if config.parent else "-",
        "command": shlex.join((*config.entrypoint, *config.command)) or "-",
        "directory": config.directory or "-",
        "default user": config.default_user or "-",
        "environment": ", ".join(f"{name}={value}" for name, value in config.environment.items()) or "-",
        "labels": ", ".join(f"{name}={value}" for name, value in config.labels.items()) or "-",
    }
    print_fields(fields | {role: f"{layer['digest']}, {format_size(int(str(layer['size'])))}" for role, layer in layers.items()})
    return 0


def _provenance(library: Library, digest: str) -> tuple[list[Origin], list[str], str]:
    """How an image came into its library, who endorses it, and why it may not be run. If the last is not empty, the
    others are.
    """
    try:
        provenance = library.provenance(digest)
    except Stopped as error:
        return [], [], error.message
    noted = {origin.source: origin for origin in origins(library.index(), digest)}
    return [noted.get(source, Origin(source)) for source in provenance.origins], list(provenance.endorsers), ""


def _inspect(arguments: argparse.Namespace, settings: Settings) -> int:
    from dayfly.cli import inspection  # noqa: PLC0415 (not for the other commands)

    return inspection.execute(arguments, settings)


def _verify(arguments: argparse.Namespace, settings: Settings) -> int:
    libraries = Libraries(settings)
    if arguments.image is not None:
        found, _, _ = libraries.find(arguments.image)
        results = [(found, found.verify(arguments.image))]
    else:
        results = [(library, library.verify()) for library in (libraries.system, libraries.user)]
    bad = [blob for _, result in results for blob in result.bad]
    if arguments.json:
        print_json(
            {
                "checked": sum(result.checked for _, result in results),
                "bad": [asdict(blob) | {"path": str(blob.path)} for blob in bad],
            }
        )
    else:
        for blob in bad:
            sys.stdout.write(f"{blob}\n")
        sys.stdout.write(
            "".join(f"{library.title}: {result.checked} files checked, {len(result.bad)} bad\n" for library, result in results)
        )
    return 1 if bad else 0


def _remove(arguments: argparse.Namespace, settings: Settings) -> int:
    reference: Reference = arguments.image
    libraries = Libraries(settings)
    if reference.library is None and reference.name is not None and libraries.both_have(reference.name):
        raise DayflyError(f"both libraries have {reference}", f"write system/{reference} or user/{reference}")
    library, entry, _ = libraries.find(reference)
    library.remove(reference)
    name = entry.name if reference.digest == "" else entry.descriptor.digest
    collect = "dayfly image gc --system" if library.kind is LibraryKind.SYSTEM else "dayfly image gc"
    sys.stdout.write(f"removed {name} from the {library.title}; `{collect}` frees the space\n")
    return 0


def _gc(arguments: argparse.Namespace, settings: Settings) -> int:
    done = Libraries(settings).library(arguments.kind).collect(unnamed=arguments.unnamed)
    if arguments.json:
        print_json(asdict(done))
        return 0
    sys.stdout.write(f"removed {len(done.removed)} files ({format_size(done.freed)}) and {done.folders} left-over folders\n")
    if done.in_use:
        sys.stdout.write(f"{len(done.in_use)} more will be removed when the machines that use them have ended\n")
    return 0
