"""`dayfly batch`: what a batch system needs to know of Dayfly."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dayfly import settings as site
from dayfly.cli.parser import Parser, UsageMistake

DESCRIPTION = """\
Make a batch system's jobs run in machines: its configuration, from the site's settings, and what its nodes do after a job.
"""
SETUP = """\
Print the lines of plugstack.conf and slurm.conf, a job_submit.lua that refuses what the site's settings do not allow, an epilog
that ends what a dead node left, and, where the settings' paths have {user} in them, a prolog that makes those folders.
With --apply, write them: lines of the site's own stay, dayfly's are in a marked block, and each file that is changed is kept
beside the new one. Doing it again changes nothing, or brings the files up to date.
"""
EPILOG = """\
End the machines of jobs that are gone from this node, and remove their empty cgroups: for the batch system's epilog, as root.
"""
SYSTEMS = ("slurm",)


def configure(parser: Parser) -> None:
    """Add the arguments of `dayfly batch`."""
    commands = parser.add_subparsers(metavar="COMMAND", title="commands", dest="batch_command", required=True)
    setup = commands.add_parser("setup", help="print what to add to a batch system's configuration", description=SETUP)
    setup.add_argument("system", metavar="SYSTEM", choices=SYSTEMS, help="slurm")
    setup.add_argument("--apply", action="store_true", help="write the files instead")
    setup.add_argument(
        "--conf",
        metavar="PATH",
        type=Path,
        default=Path("/etc/slurm/slurm.conf"),
        help="slurm.conf (default: /etc/slurm/slurm.conf)",
    )
    setup.add_argument("--show", metavar="FILE", help="print only what belongs into this file, like plugstack.conf")
    setup.add_argument(
        "--plugin",
        metavar="PATH",
        default="/usr/local/lib/dayfly/dayfly_spank.so",
        help="where the nodes have the plugin (default: where `make -C spank install` puts it)",
    )
    setup.add_argument("--program", metavar="PATH", default="", help="where the nodes have dayfly (default: where this one is)")
    setup.add_argument(
        "--settings", metavar="PATH", default="", help=f"the site's settings on the nodes (default: {site.SITE_FILE})"
    )
    setup.set_defaults(act=_setup)
    epilog = commands.add_parser("epilog", help="end what jobs that are gone left on this node", description=EPILOG)
    epilog.add_argument("system", metavar="SYSTEM", choices=SYSTEMS, help="slurm")
    epilog.add_argument(
        "--age", metavar="SECONDS", type=float, default=60.0, help="how long an empty cgroup has to be there (default: 60)"
    )
    epilog.set_defaults(act=_epilog)


def execute(arguments: argparse.Namespace) -> int:
    """Do what the command below `batch` says."""
    status: int = arguments.act(arguments)
    return status


def _epilog(arguments: argparse.Namespace) -> int:
    from dayfly.batch.slurm.reap import reap  # noqa: PLC0415 (only where it is asked for)

    for line in reap(arguments.age):
        print(line)
    return 0


def _setup(arguments: argparse.Namespace) -> int:
    from dayfly.batch.slurm.apply import task_prolog  # noqa: PLC0415 (only where it is asked for)
    from dayfly.batch.slurm.setup import files  # noqa: PLC0415

    settings = site.load(Path(arguments.settings) if arguments.settings else None, user=site.USER)
    program = arguments.program or str(Path(sys.argv[0]).absolute())
    if arguments.apply:
        return _apply(arguments, settings, program)
    conf: Path = arguments.conf
    texts = files(settings, arguments.plugin, program, arguments.settings, conf.parent, task_prolog(conf))
    if arguments.show:
        if arguments.show not in texts:
            raise UsageMistake(f"{arguments.show} is none of the files", f"these: {', '.join(texts)}")
        print(texts[arguments.show], end="")
        return 0
    for name, text in texts.items():
        print(f"# {name}\n{text}")
    return 0


def _apply(arguments: argparse.Namespace, settings: site.Settings, program: str) -> int:
    from dayfly.batch.slurm.apply import Wanted, check_writable, plan, write  # noqa: PLC0415 (only where it is asked for)

    if arguments.show:
        raise UsageMistake("--apply writes all of the files, and --show prints one", "leave one of them out")
    planned = plan(Wanted(arguments.conf, arguments.plugin, program, arguments.settings), settings)
    check_writable(planned)
    kept = write(planned)
    for path in planned:
        print(f"wrote {path}")
    for path in kept:
        print(f"kept  {path}")
    print("restart slurmctld and the slurmds" if planned else "everything is as it should be")
    return 0
