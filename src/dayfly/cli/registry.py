"""`dayfly image push`, `pull` and `copy`, and the options for the access to registries."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dayfly.cli.libraries import add_image, add_system
from dayfly.cli.notices import warn
from dayfly.cli.parser import checked
from dayfly.cli.progress import Progress
from dayfly.errors import NotFound, Refused
from dayfly.image.reference import LibraryKind, Name, Reference, parse, parse_name
from dayfly.image.search import Libraries
from dayfly.settings import Settings
from dayfly.units import parse_duration, parse_size

if TYPE_CHECKING:
    from dayfly.imagebuild.registry import Remote
    from dayfly.imagebuild.skopeo import Access

_IN_REGISTRY = "docker://"


def add_access(parser: argparse.ArgumentParser) -> None:
    """Add the options for the access to a registry."""
    parser.add_argument(
        "--ca", type=checked(_file), metavar="FILE", help="the CA certificate (PEM) to check the server's against"
    )
    parser.add_argument(
        "--auth-file",
        type=checked(_file),
        metavar="FILE",
        help="credentials for the registry (default: those of skopeo, podman or docker login)",
    )
    parser.add_argument("--insecure", action="store_true", help="trust any certificate, and a registry without TLS")
    parser.add_argument(
        "--timeout",
        type=checked(parse_duration),
        default=60.0,
        metavar="TIME",
        help="give up on a server that sends or takes nothing for this long (default: 60s)",
    )


def add_max_size(parser: argparse.ArgumentParser, help_: str) -> None:
    """Add the limit on downloads."""
    parser.add_argument("--max-size", type=checked(parse_size), default=parse_size("16G"), metavar="SIZE", help=help_)


def access(arguments: argparse.Namespace) -> Access:
    """The values of the options of `add_access`."""
    from dayfly.imagebuild.skopeo import Access  # noqa: PLC0415 (not for the other commands)

    return Access(arguments.ca, arguments.auth_file, arguments.insecure, arguments.timeout, warn)


def _file(text: str) -> Path:
    path = Path(text).absolute()
    if not path.is_file():
        raise NotFound(f"there is no file {text}")
    return path


def configure_push(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `dayfly image push`."""
    add_image(parser)
    parser.add_argument("target", metavar="TARGET", help="docker://HOST/NAME:TAG")
    add_access(parser)


def configure_pull(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `dayfly image pull`."""
    parser.add_argument("source", metavar="SOURCE", help="docker://HOST/NAME:TAG or docker://HOST/NAME@sha256:DIGEST")
    parser.add_argument(
        "name", metavar="NAME:TAG", nargs="?", type=checked(parse_name), help="name the image so (default: as it is called there)"
    )
    add_access(parser)
    add_max_size(parser, "refuse an image that is larger (default: 16G)")
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="FOLDER",
        help="fetch through this folder, which several hosts share: what one has fetched, the others take from there "
        "(default: as library.cache in the settings says)",
    )
    add_system(parser, "add it to the system library, not to your own")


def configure_copy(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `dayfly image copy`."""
    parser.add_argument("source", metavar="SOURCE", help="an image of a library, or docker://HOST/NAME:TAG")
    parser.add_argument(
        "target",
        metavar="TARGET",
        help="NAME:TAG for your own library, system/NAME:TAG for the system's, or docker://HOST/NAME:TAG",
    )
    add_access(parser)
    add_max_size(parser, "refuse an image of a registry that is larger (default: 16G)")


def push(arguments: argparse.Namespace, settings: Settings) -> int:
    """`dayfly image push IMAGE TARGET`."""
    return _push(settings, arguments.image, _remote(arguments.target, arguments))


def pull(arguments: argparse.Namespace, settings: Settings) -> int:
    """`dayfly image pull SOURCE [NAME:TAG]`."""
    from dayfly.imagebuild.containerimage import default_name  # noqa: PLC0415 (not for the other commands)

    remote = _remote(arguments.source, arguments)
    cache: Path | None = arguments.cache.absolute() if arguments.cache else settings.library_cache
    return _pull(arguments, settings, remote, arguments.name or default_name(remote.source, ""), arguments.kind, cache)


def copy(arguments: argparse.Namespace, settings: Settings) -> int:
    """`dayfly image copy SOURCE TARGET`: a push, a pull, a copy between registries, or a copy between libraries."""
    from_registry, to_registry = (text.startswith(_IN_REGISTRY) for text in (arguments.source, arguments.target))
    if to_registry and not from_registry:
        return _push(settings, parse(arguments.source), _remote(arguments.target, arguments))
    if to_registry:
        return _relay(arguments, settings)
    target = parse(arguments.target)
    if target.name is None or target.digest:
        raise Refused("an image is copied to a name, not to a digest", "write NAME:TAG, or system/NAME:TAG")
    kind = target.library or LibraryKind.USER
    if from_registry:
        return _pull(arguments, settings, _remote(arguments.source, arguments), target.name, kind, settings.library_cache)
    return _within(settings, parse(arguments.source), target.name, kind)


def _remote(text: str, arguments: argparse.Namespace) -> Remote:
    from dayfly.imagebuild import registry  # noqa: PLC0415 (not for the other commands)

    return registry.Remote(registry.parse(text), access(arguments))


def _push(settings: Settings, image: Reference, target: Remote) -> int:
    from dayfly.imagebuild import registry  # noqa: PLC0415 (not for the other commands)

    libraries = Libraries(settings)
    library, entry, notice = libraries.find(image)
    if notice:
        warn(notice)
    progress = Progress()
    digest = registry.push(
        library, Reference(image.name, entry.descriptor.digest, library.kind), target, libraries.user, progress
    )
    progress(f"{target.source} is {image}")
    sys.stdout.write(f"{digest}\n")
    return 0


def _pull(
    arguments: argparse.Namespace, settings: Settings, source: Remote, name: Name, kind: LibraryKind, cache: Path | None
) -> int:
    from dayfly.imagebuild import registry  # noqa: PLC0415 (not for the other commands)

    libraries = Libraries(settings)
    _warn(libraries, name, kind)
    progress = Progress()
    library, limit = libraries.library(kind), arguments.max_size
    if cache is None:
        digest = registry.pull(source, name, library, limit, progress)
    else:
        digest = registry.pull_through(cache, source, name, library, limit, progress)
    progress.done(name, digest)
    return 0


def _relay(arguments: argparse.Namespace, settings: Settings) -> int:
    from dayfly.imagebuild import registry  # noqa: PLC0415 (not for the other commands)

    progress = Progress()
    source, target = _remote(arguments.source, arguments), registry.parse(arguments.target)
    digest = registry.relay(source, target, Libraries(settings).user, arguments.max_size, progress)
    progress(f"{target} is {source.source}")
    sys.stdout.write(f"{digest}\n")
    return 0


def _within(settings: Settings, source: Reference, name: Name, kind: LibraryKind) -> int:
    from dayfly.image.copying import copy  # noqa: PLC0415 (not for the other commands)

    libraries = Libraries(settings)
    library, entry, notice = libraries.find(source)
    if notice:
        warn(notice)
    _warn(libraries, name, kind)
    progress = Progress()
    digest = copy(library, Reference(source.name, entry.descriptor.digest, library.kind), libraries.library(kind), name)
    progress.done(name, digest)
    return 0


def _warn(libraries: Libraries, name: Name, kind: LibraryKind) -> None:
    if warning := libraries.warning(name, kind):
        warn(warning)
