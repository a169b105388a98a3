"""`dayfly batch`: the configuration of batch systems for Dayfly."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from dayfly import settings as site
from dayfly.cli.notices import warn
from dayfly.cli.parser import Parser, UsageError

TYPE_CHECKING = False  # typing's own costs an import at every start, and checkers know the name
if TYPE_CHECKING:
    from dayfly.batch.setup.site_files import Made, Places

DESCRIPTION = """\
Set up a batch system so that its jobs run in machines, and clean up on its nodes after a job.
"""
SETUP = """\
Print what a site adds to its batch system's configuration, rendered from Dayfly's settings. With --apply, add it. The site's own
configuration stays. Conflicts are reported before anything is changed. Running it again changes nothing, or brings the
configuration up to date.
"""
SETUP_SLURM = """\
Slurm: lines of plugstack.conf and slurm.conf, a job_submit.lua that refuses what the site's settings do not allow, an epilog that
ends what a dead node left, and, where the settings' paths have {user} in them, a prolog that makes those folders. With --apply,
dayfly's lines are in a marked block, and a copy of each changed file is saved next to the new one.
"""
SETUP_GRIDENGINE = """\
Grid Engine: programs for the cell's folder (a starter, the methods, a JSV that refuses what the site's settings do not allow),
and what complexes, queues and the global configuration have to say. With --apply, by qconf, as a manager.
"""
SETUP_PBS = """\
PBS (OpenPBS, PBS Professional): a hook that puts machines under jobs, and refuses at submission what the site's settings do not
allow, and the commands for qmgr. With --apply, by qmgr, as a manager.
"""
SETUP_HTCONDOR = """\
HTCondor: a job wrapper, and two files of configuration, for hosts that run jobs and for those where they are submitted. With
--apply, on each host, as root; condor_reconfig has them read.
"""
SETUP_TORQUE = """\
Torque: a job starter, a submit filter, the lines that name them and, where the settings' paths have {user} in them, a prologue
that makes those folders. With --apply, on each host, as root: dayfly's lines are in a marked block, and a copy of each changed
file is saved next to the new one.
"""
FILTER = """\
Read a job's script on stdin and write it with what it asks for (#PBS -l vm_image=debian:12) as variables, which the batch system
knows; end with status 255 and say why where the job would be refused: for qsub's submit filter. Behind -- is what qsub was given.
"""
CHECK = """\
Say why a job would be refused on a node, in the job shell's words, or nothing: for hooks that see a job when it is submitted. The
words are those that hooks give the job shell, like image=debian:12.
"""
EPILOG = """\
End the machines of jobs that are gone from this node, and remove their empty cgroups: for the batch system's epilog, as root.
"""
SYSTEMS = ("slurm", "gridengine", "pbs", "htcondor", "torque")


_DONE = "everything is up to date"
_REJECTED = 255
"""The exit status (-1) with which a submit filter has qsub reject a job."""
_SCRIPT_LIMIT = 64 * 1024**2


def configure(parser: Parser) -> None:
    """Add the arguments of `dayfly batch`."""
    commands = parser.add_subparsers(metavar="COMMAND", title="commands", dest="batch_command", required=True)
    setup = commands.add_parser("setup", help="print what to add to a batch system's configuration", description=SETUP)
    systems = setup.add_subparsers(metavar="SYSTEM", title="batch systems", dest="system", required=True)
    _configure_slurm(systems.add_parser("slurm", help="Slurm", description=SETUP_SLURM))
    _configure_gridengine(systems.add_parser("gridengine", help="Grid Engine", description=SETUP_GRIDENGINE))
    _configure_pbs(systems.add_parser("pbs", help="OpenPBS, PBS Professional", description=SETUP_PBS))
    htcondor = systems.add_parser("htcondor", help="HTCondor", description=SETUP_HTCONDOR)
    _configure_host(htcondor, "--conf", "/etc/condor", "the folder of HTCondor's configuration", _setup_htcondor)
    torque = systems.add_parser("torque", help="Torque", description=SETUP_TORQUE)
    _configure_host(torque, "--home", "/var/spool/torque", "Torque's folder", _setup_torque)
    check = commands.add_parser("check", help="say why a job would be refused", description=CHECK)
    check.add_argument("system", metavar="SYSTEM", choices=SYSTEMS, help=" or ".join(SYSTEMS))
    check.add_argument(
        "words",
        metavar="WORD=VALUE",
        nargs="*",
        help="what the job asks for: image, boot, network, share, memory_mib, address_space_mib",
    )
    check.add_argument("--queue", metavar="NAME", default="", help="the job's queue (Slurm: partition)")
    check.add_argument(
        "--memory", metavar="SIZE", default="", help="what the job asks for, or each of its slots, as Grid Engine writes sizes"
    )
    check.add_argument(
        "--address-space",
        metavar="SIZE",
        default="",
        help="what each process of the job may map, or for each of its slots (h_vmem)",
    )
    check.add_argument("--slots", metavar="N", type=int, default=1, help="how many slots the job may have on a host (default: 1)")
    _add_settings(check)
    check.set_defaults(act=_check)
    submit = commands.add_parser("filter", help="filter a script that is submitted", description=FILTER)
    submit.add_argument("system", metavar="SYSTEM", choices=("torque",), help="torque")
    _add_settings(submit)
    submit.set_defaults(act=_filter)
    epilog = commands.add_parser("epilog", help="end what jobs that are gone left on this node", description=EPILOG)
    epilog.add_argument("system", metavar="SYSTEM", choices=("slurm",), help="slurm")
    epilog.add_argument(
        "--age", metavar="SECONDS", type=float, default=60.0, help="how long an empty cgroup has to be there (default: 60)"
    )
    epilog.set_defaults(act=_epilog)


def _configure_slurm(setup: argparse.ArgumentParser) -> None:
    _add_common(setup)
    setup.add_argument(
        "--conf",
        metavar="PATH",
        type=Path,
        default=Path("/etc/slurm/slurm.conf"),
        help="slurm.conf (default: /etc/slurm/slurm.conf)",
    )
    setup.add_argument(
        "--plugin",
        metavar="PATH",
        default="/usr/local/lib/dayfly/dayfly_spank.so",
        help="where the nodes have the plugin (default: where `make -C spank install` puts it)",
    )
    setup.set_defaults(act=_setup_slurm)


def _configure_gridengine(setup: argparse.ArgumentParser) -> None:
    _add_common(setup)
    setup.add_argument(
        "--queue", metavar="NAME", action="append", help="a queue whose jobs may have machines, more than once (default: all.q)"
    )
    setup.add_argument("--root", metavar="PATH", type=Path, help="SGE_ROOT (default: as the environment says)")
    setup.add_argument("--cell", metavar="NAME", help="the cell (default: SGE_CELL in the environment, or default)")
    setup.set_defaults(act=_setup_gridengine)


def _configure_pbs(setup: argparse.ArgumentParser) -> None:
    _add_common(setup)
    setup.set_defaults(act=_setup_pbs)


def _configure_host(
    setup: argparse.ArgumentParser, option: str, default: str, what: str, act: Callable[[argparse.Namespace], int]
) -> None:
    """The options of a batch system with files on each host."""
    _add_common(setup)
    setup.add_argument(
        option, dest="place", metavar="PATH", type=Path, default=Path(default), help=f"{what} (default: {default})"
    )
    setup.add_argument(
        "--folder",
        metavar="PATH",
        type=Path,
        default=Path("/usr/local/lib/dayfly"),
        help="where the hosts have dayfly's programs (default: /usr/local/lib/dayfly)",
    )
    setup.set_defaults(act=act)


def _add_common(setup: argparse.ArgumentParser) -> None:
    setup.add_argument("--apply", action="store_true", help="do it instead")
    _add_printing(setup)


def _add_printing(setup: argparse.ArgumentParser) -> None:
    setup.add_argument("--show", metavar="FILE", help="print only what belongs into this file, like plugstack.conf")
    setup.add_argument("--program", metavar="PATH", default="", help="where the nodes have dayfly (default: where this one is)")
    _add_settings(setup)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--settings", metavar="PATH", default="", help=f"the site's settings on the nodes (default: {site.SITE_FILE})"
    )


def execute(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    status: int = arguments.act(arguments)
    return status


def _check(arguments: argparse.Namespace) -> int:
    from dayfly.batch.jobshell.check import check  # noqa: PLC0415 (only for this command)
    from dayfly.batch.jobshell.request import parse  # noqa: PLC0415

    words = [*arguments.words]
    for name, size in (("memory_mib", arguments.memory), ("address_space_mib", arguments.address_space)):
        if size:
            from dayfly.batch.adapters.gridengine.job import parse_memory  # noqa: PLC0415

            words.append(f"{name}={-(-parse_memory(size) // 1024**2)}")
    check(parse([*words, "--", "job"]), arguments.queue, _settings(arguments), arguments.slots)
    return 0


def _filter(arguments: argparse.Namespace) -> int:
    from dayfly.batch.adapters.torque.filter import rewrite  # noqa: PLC0415
    from dayfly.batch.jobshell.check import check  # noqa: PLC0415
    from dayfly.errors import DayflyError  # noqa: PLC0415

    try:
        filtered = rewrite(sys.stdin.buffer.read(_SCRIPT_LIMIT).decode(errors="surrogateescape"), arguments.after_dashes)
        check(filtered.request, filtered.queue, _settings(arguments))
    except DayflyError as error:
        warn(str(error))
        return _REJECTED
    sys.stdout.buffer.write(filtered.script.encode(errors="surrogateescape"))
    return 0


def _epilog(arguments: argparse.Namespace) -> int:
    from dayfly.batch.adapters.slurm.reap import reap  # noqa: PLC0415 (only for this command)

    for line in reap(arguments.age):
        print(line)
    return 0


def _settings(arguments: argparse.Namespace) -> site.Settings:
    """The site's settings, for all users. A given file may belong to the caller, who may be preparing it for the nodes."""
    named = Path(arguments.settings) if arguments.settings else None
    return site.load(named, user=site.USER, owners=site.ROOT | {os.getuid()} if named else site.ROOT)


def _program(arguments: argparse.Namespace) -> str:
    return arguments.program or str(Path(sys.argv[0]).absolute())


def _print(arguments: argparse.Namespace, texts: Mapping[str, str]) -> int:
    if arguments.show:
        if arguments.show not in texts:
            raise UsageError(f"there is no file {arguments.show}", f"one of: {', '.join(texts)}")
        print(texts[arguments.show], end="")
        return 0
    for name, text in texts.items():
        print(f"# {name}\n{text}")
    return 0


def _refuse_show(arguments: argparse.Namespace) -> None:
    if arguments.show:
        raise UsageError("--apply and --show cannot be combined", "remove one of them")


def _setup_slurm(arguments: argparse.Namespace) -> int:
    from dayfly.batch.adapters.slurm.apply import Wanted, plan, task_prolog  # noqa: PLC0415 (only for this command)
    from dayfly.batch.adapters.slurm.setup import files  # noqa: PLC0415

    settings, program = _settings(arguments), _program(arguments)
    conf: Path = arguments.conf
    if not arguments.apply:
        return _print(arguments, files(settings, arguments.plugin, program, arguments.settings, conf.parent, task_prolog(conf)))
    _refuse_show(arguments)
    return _write(
        plan(Wanted(conf, arguments.plugin, program, arguments.settings), settings), "restart slurmctld and the slurmds"
    )


def _write(planned: Mapping[Path, Made], then: str) -> int:
    """Write a site's files, and print them; `then` is what the administrator must do next."""
    from dayfly.batch.setup.site_files import check_writable, write  # noqa: PLC0415 (only for this command)

    check_writable(planned, "the batch system's files")
    saved = write(planned)
    for path in planned:
        print(f"wrote {path}")
    for path in saved:
        print(f"saved {path}")
    print(then if planned else _DONE)
    return 0


def _setup_gridengine(arguments: argparse.Namespace) -> int:
    from dayfly.batch.adapters.gridengine import setup  # noqa: PLC0415 (only for this command)
    from dayfly.batch.adapters.gridengine.apply import Wanted, do, plan  # noqa: PLC0415

    settings = _settings(arguments)
    root = arguments.root or Path(os.environ.get("SGE_ROOT", "/var/lib/gridengine"))
    cell = arguments.cell or os.environ.get("SGE_CELL", "default")
    wanted = Wanted(root, cell, tuple(arguments.queue or ["all.q"]), _program(arguments), arguments.settings)
    if not arguments.apply:
        texts = {
            **setup.files(settings, wanted.program, wanted.settings_file, root),
            "complexes": "".join(f"{line}\n" for line in setup.complexes().values()),
            "queue": _said(setup.queue(settings, wanted.folder)),
            "global": _said(setup.configuration(wanted.folder)),
        }
        return _print(arguments, texts)
    _refuse_show(arguments)
    for line in do(plan(wanted, settings)) or [_DONE]:
        print(line)
    return 0


def _said(attributes: Mapping[str, str]) -> str:
    return "".join(f"{name} {value}\n" for name, value in attributes.items())


def _setup_pbs(arguments: argparse.Namespace) -> int:
    from dayfly.batch.adapters.pbs import apply, setup  # noqa: PLC0415 (only for this command)

    settings, program = _settings(arguments), _program(arguments)
    if not arguments.apply:
        return _print(arguments, setup.files(settings, program, arguments.settings))
    _refuse_show(arguments)
    for line in apply.do(settings, program, arguments.settings):
        print(f"qmgr: {line}")
    return 0


def _setup_htcondor(arguments: argparse.Namespace) -> int:
    from dayfly.batch.adapters.htcondor import apply, setup  # noqa: PLC0415 (only for this command)

    return _setup_host(arguments, setup.files, apply.plan, "make the daemons read it: condor_reconfig")


def _setup_torque(arguments: argparse.Namespace) -> int:
    from dayfly.batch.adapters.torque import apply, setup  # noqa: PLC0415 (only for this command)

    return _setup_host(arguments, setup.files, apply.plan, "make pbs_mom read it: send it HUP")


def _setup_host(
    arguments: argparse.Namespace,
    files: Callable[[site.Settings, str, str, str], Mapping[str, str]],
    plan: Callable[[Places, site.Settings], Mapping[Path, Made]],
    then: str,
) -> int:
    from dayfly.batch.setup.site_files import Places  # noqa: PLC0415 (only for this command)

    settings = _settings(arguments)
    places = Places(arguments.place, arguments.folder, _program(arguments), arguments.settings)
    if not arguments.apply:
        return _print(arguments, files(settings, places.program, places.settings_file, str(places.hooks)))
    _refuse_show(arguments)
    return _write(plan(places, settings), then)
