"""`dayfly run`: one job in one fresh machine."""

from __future__ import annotations

import argparse
import os

from dayfly import inherited
from dayfly import settings as site
from dayfly.cli.notices import warn
from dayfly.cli.parser import IMAGE_HELP, Parser, UsageError, checked, positive
from dayfly.guest.boot import BootMode
from dayfly.job.description import JobDescription, parse_folder
from dayfly.machine.config import BOOT_CHOICES, CPU_CHOICES, CpuModel, Network, Shape
from dayfly.settings import Settings
from dayfly.units import parse_duration, parse_size

TYPE_CHECKING = False  # typing's own costs an import at every start, and checkers know the name
if TYPE_CHECKING:
    from dayfly.image.reference import Name

DESCRIPTION = """\
Boot the image in a fresh virtual machine, run the command in it as the calling user, pass its streams, signals and exit status
through, and throw the machine away. The working directory is shared with the job, at the same path. Without a command, the
image's own is run, such as that of an imported container image.
"""


def configure(parser: Parser) -> None:
    """Add the arguments of `dayfly run`."""
    parser.usage = "dayfly run IMAGE [options] [-- COMMAND [ARGUMENT ...]]"
    parser.surplus = "the command comes after --: dayfly run IMAGE [options] -- COMMAND [ARGUMENT ...]"
    parser.add_argument("image", metavar="IMAGE", help=IMAGE_HELP)
    _configure_machine(parser)
    _configure_job(parser)
    _configure_saving(parser)


def _configure_machine(parser: Parser) -> None:
    machine = parser.add_argument_group("the machine")
    machine.add_argument("--cpus", type=positive, metavar="N", help="its CPUs (default: machine.cpus of the settings, 1)")
    machine.add_argument(
        "--cpu-model",
        type=CpuModel,
        choices=CPU_CHOICES,
        help="the CPU that it has: auto, x86-64-v2, x86-64-v3, max for all that the host can give it, or host, which needs KVM "
        "(default: machine.cpu_model, auto: the host's CPU under KVM, x86-64-v3 where machines are emulated)",
    )
    machine.add_argument(
        "--memory", type=checked(parse_size), metavar="SIZE", help="its memory, like 2G (default: machine.memory, 512M)"
    )
    machine.add_argument(
        "--scratch",
        type=checked(parse_size),
        metavar="SIZE",
        help="how much the job can write outside of shared folders (default: scratch.size, 8G)",
    )
    machine.add_argument(
        "--network",
        type=Network,
        choices=list(Network),
        default=Network.NONE,
        help="none (the default), or nat: connections out, none in",
    )
    machine.add_argument(
        "--boot",
        type=BootMode,
        choices=BOOT_CHOICES,
        help="what is init: agent, or system for the image's own (default: what the image says)",
    )
    machine.add_argument(
        "--cold", action="store_true", help="boot it, also where a template of the booted machine could be cloned in a moment"
    )


def _configure_job(parser: Parser) -> None:
    job = parser.add_argument_group("the job")
    job.add_argument(
        "-t",
        "--terminal",
        action="store_true",
        default=None,
        help="give it a terminal (default: when stdin and stdout are terminals)",
    )
    job.add_argument(
        "--stdin",
        choices=["inherit", "none"],
        default="inherit",
        help="inherit (the default), or none: the job reads nothing, and what is there is left to the caller",
    )
    job.add_argument("-n", action="store_const", const="none", dest="stdin", help="as --stdin none, like ssh's -n")
    job.add_argument("-T", "--no-terminal", action="store_false", dest="terminal", help="give it no terminal")
    job.add_argument(
        "-e",
        "--env",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set a variable over those of the caller; repeatable",
    )
    job.add_argument(
        "-w",
        "--workdir",
        metavar="PATH",
        help="start there, an absolute path (default: the working directory; where that is not shared the image's own directory, "
        "or else the home directory)",
    )
    job.add_argument(
        "-u", "--user", choices=["root"], help="be root in the machine; in shared folders the job keeps the caller's rights"
    )
    job.add_argument(
        "--share",
        action="append",
        default=[],
        type=checked(parse_folder),
        metavar="PATH[:ro]",
        help="share this folder too, at the same path; with :ro the job cannot change it; repeatable",
    )
    job.add_argument("--no-share", action="store_true", help="do not share the working directory")
    job.add_argument(
        "--timeout",
        type=checked(parse_duration),
        metavar="TIME",
        help="end the job after this time, like 90s, 10m or 1h30m: exit status 124",
    )
    job.add_argument("--name", default="", metavar="TEXT", help="a name for its usage record")


def _configure_saving(parser: Parser) -> None:
    saving = parser.add_argument_group("the image afterwards")
    saving.add_argument(
        "--save-as",
        type=checked(_target),
        metavar="NAME:TAG",
        help="run the job as root in the machine, and when it has ended with status 0 make the machine's files an image of your "
        "own library, of this name",
    )
    saving.add_argument("--save-failed", action="store_true", help="with --save-as: also when the job has failed")


def _target(text: str) -> Name:
    from dayfly.app.save import parse_target  # noqa: PLC0415 (not for most jobs)

    return parse_target(text)


def execute(arguments: argparse.Namespace) -> int:
    """Run the job."""
    if arguments.stdin == "none":
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    settings = site.load()
    job = description(arguments, settings)
    if arguments.save_as is None:
        from dayfly.job.start import run  # noqa: PLC0415 (help does without it)

        return run(job, settings, warn).status
    return _run_and_save(job, arguments.save_as, settings, failed_too=arguments.save_failed)


def _run_and_save(job: JobDescription, name: Name, settings: Settings, *, failed_too: bool) -> int:
    from dayfly.app.save import run_and_save  # noqa: PLC0415 (not for most jobs)
    from dayfly.cli.progress import Progress  # noqa: PLC0415 (as that)

    told: list[Progress] = []

    def progress() -> Progress:
        told.append(Progress())
        return told[0]

    saved = run_and_save(job, name, settings, failed_too=failed_too, notify=warn, progress=progress)
    if saved.digest:
        told[0].ready(name)
    return saved.status


def description(arguments: argparse.Namespace, settings: Settings) -> JobDescription:
    """The job described by the arguments and the settings. Raises `UsageError`."""
    if arguments.workdir is not None and not arguments.workdir.startswith("/"):
        raise UsageError(f"--workdir {arguments.workdir} is not an absolute path", "write it with a leading /")
    if arguments.save_failed and arguments.save_as is None:
        raise UsageError("--save-failed has no effect without --save-as", "give the image's name with --save-as NAME:TAG")
    return JobDescription(
        image=arguments.image,
        command=tuple(arguments.after_dashes),
        shape=Shape(arguments.cpus or settings.machine_cpus, arguments.memory or settings.machine_memory),
        scratch=arguments.scratch or settings.scratch_size,
        directory=_working_directory(),
        environment=environment(inherited.environment(), arguments.env),
        own_path=any(change.startswith("PATH=") for change in arguments.env),
        shares=tuple(arguments.share),
        share_directory=not arguments.no_share,
        workdir=arguments.workdir or "",
        network=arguments.network,
        boot=arguments.boot,
        cpu_model=arguments.cpu_model,
        root=arguments.user == "root" or arguments.save_as is not None,
        terminal=arguments.terminal,
        timeout=arguments.timeout,
        name=arguments.name,
        cold=arguments.cold,
    )


def environment(variables: dict[bytes, bytes], changes: list[str]) -> tuple[bytes, ...]:
    """The job's environment: the caller's, with each `NAME=VALUE` set. Raises `UsageError` for an invalid one."""
    for change in changes:
        name, equals, value = change.partition("=")
        if not name or not equals:
            raise UsageError(f"--env {change!r} sets no variable", "write it as NAME=VALUE")
        variables[os.fsencode(name)] = os.fsencode(value)
    return tuple(name + b"=" + value for name, value in variables.items())


def _working_directory() -> str:
    try:
        return inherited.directory(os.environ.get("PWD", ""))
    except FileNotFoundError:
        raise UsageError("the working directory does not exist any more", "change to an existing directory") from None
