"""`dayfly image import`: container images and disks."""

from __future__ import annotations

import argparse
import functools
from typing import TYPE_CHECKING

from dayfly.cli.libraries import add_system
from dayfly.cli.notices import warn
from dayfly.cli.parser import UsageError, checked
from dayfly.cli.progress import Progress
from dayfly.cli.registry import access, add_access, add_max_size
from dayfly.guest.boot import BootMode
from dayfly.image.reference import Name, parse, parse_name
from dayfly.image.search import Libraries
from dayfly.settings import Settings

if TYPE_CHECKING:
    from dayfly.imagebuild import disk
    from dayfly.imagebuild.disk import Checksum


def configure_import(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `dayfly image import`."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a container image: docker://HOST/NAME:TAG, oci:FOLDER:TAG, oci-archive:FILE or docker-archive:FILE; "
        "or a disk (qcow2, raw, vmdk, vdi, ova): disk:FILE or https://HOST/FILE",
    )
    parser.add_argument(
        "name",
        metavar="NAME:TAG",
        nargs="?",
        type=checked(parse_name),
        help="name the image so (default: the name of the container image or of the disk's file)",
    )
    parser.add_argument(
        "--kernel-of",
        type=checked(parse),
        metavar="IMAGE",
        help="take the kernel of this image (default: a disk's own, else the newest that an image in the libraries has, "
        "or else Debian's)",
    )
    _configure_disk(parser.add_argument_group("disks"))
    add_access(parser)
    add_max_size(parser, "refuse a container image whose layers or files are larger, and a larger disk (default: 16G)")
    add_system(parser, "add it to the system library, not to your own")


def _configure_disk(group: argparse._ArgumentGroup) -> None:
    sums = group.add_mutually_exclusive_group()
    for algorithm in ("sha256", "sha512"):
        sums.add_argument(
            f"--{algorithm}",
            dest="checksum",
            type=checked(functools.partial(_checksum, algorithm)),
            metavar="DIGEST",
            help="refuse a file that has another checksum than this",
        )
    group.add_argument(
        "--boot",
        choices=["agent", "system"],
        help="what is init in the machine: agent, or system for the disk's own (default: system where that is systemd)",
    )
    group.add_argument(
        "--firmware", action="store_true", help="keep the disk whole, and let a BIOS or UEFI boot it: slow, and as the disk is"
    )


def _checksum(algorithm: str, text: str) -> Checksum:
    from dayfly.imagebuild.disk import parse_checksum  # noqa: PLC0415 (not for the other commands)

    return parse_checksum(algorithm, text)


def import_image(arguments: argparse.Namespace, settings: Settings) -> int:
    """`dayfly image import SOURCE [NAME:TAG]`."""
    from dayfly.imagebuild import disk  # noqa: PLC0415 (not for the other commands)

    libraries, progress = Libraries(settings), Progress()
    source = disk.parse(arguments.source)
    make = _of_container if source is None else functools.partial(_of_disk, source)
    name, digest = make(arguments, libraries, settings, progress)
    if warning := libraries.warning(name, arguments.kind):
        warn(warning)
    progress.done(name, digest)
    return 0


def _of_disk(
    source: disk.Source, arguments: argparse.Namespace, libraries: Libraries, settings: Settings, progress: Progress
) -> tuple[Name, str]:
    from dayfly.imagebuild import disk  # noqa: PLC0415 (not for the other commands)

    if arguments.insecure or arguments.auth_file:
        raise UsageError(f"{'--insecure' if arguments.insecure else '--auth-file'} is for registries, not for disks")
    options = disk.ImportOptions(
        source=source,
        name=arguments.name,
        checksum=arguments.checksum,
        kernel_of=arguments.kernel_of,
        boot=BootMode(arguments.boot) if arguments.boot else None,
        firmware=arguments.firmware,
        ca=arguments.ca,
        patience=arguments.timeout,
        limits=disk.Limits(size=arguments.max_size),
    )
    made = disk.import_disk(options, libraries.library(arguments.kind), libraries, settings, progress)
    return made.name, made.digest


def _of_container(
    arguments: argparse.Namespace, libraries: Libraries, settings: Settings, progress: Progress
) -> tuple[Name, str]:
    from dayfly.imagebuild import containerimage  # noqa: PLC0415 (not for the other commands)

    if arguments.checksum or arguments.boot or arguments.firmware:
        given = "--firmware" if arguments.firmware else "--boot" if arguments.boot else f"--{arguments.checksum.algorithm}"
        raise UsageError(f"{given} is for disks, but {arguments.source} is not a disk", "write disk:FILE for a disk")
    options = containerimage.ImportOptions(
        source=containerimage.parse(arguments.source),
        name=arguments.name,
        kernel_of=arguments.kernel_of,
        access=access(arguments),
        limits=containerimage.Limits(size=arguments.max_size),
    )
    made = containerimage.import_container(options, libraries.library(arguments.kind), libraries, settings, progress)
    return made.name, made.digest
