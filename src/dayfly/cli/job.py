"""`dayfly job`: the state and results of submitted jobs."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable

from dayfly import settings as site
from dayfly.batch.submission import store
from dayfly.batch.submission.client import Client, JobStatus
from dayfly.batch.submission.states import State
from dayfly.batch.submission.store import SubmittedJob
from dayfly.cli.listing import add_json, print_fields, print_json, print_table
from dayfly.cli.parser import Parser, checked
from dayfly.errors import DayflyError, NotFound
from dayfly.values import asdict

DESCRIPTION = "Show, wait for and cancel jobs that `dayfly submit` has submitted, by the id that it printed."


def configure(parser: Parser) -> None:
    """Add the arguments of `dayfly job`."""
    below = parser.add_subparsers(metavar="COMMAND", required=True, title="commands", dest="job_command")

    def add(name: str, help_: str, act: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        command = below.add_parser(name, help=help_, description=help_[0].upper() + help_[1:] + ".")
        command.add_argument("job", metavar="ID", type=checked(store.recall), help="the job's id, like slurm:42")
        command.set_defaults(act=act)
        return command

    add_json(add("status", "show where a job is, and how it ended", _status))
    add("wait", "wait for a job's end, and exit with its status", _wait)
    logs = add("logs", "print what a job wrote", _logs)
    logs.add_argument("--errors", action="store_true", help="what it wrote to stderr instead")
    add("cancel", "end a job", _cancel)
    add("forget", "remove a job that has ended from the list; its output stays", _forget)
    everything = below.add_parser(
        "list", help="list the jobs that were submitted", description="List the jobs that were submitted."
    )
    add_json(everything)
    everything.set_defaults(act=_list)


def execute(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    status: int = arguments.act(arguments)
    return status


def _client() -> Client:
    from dayfly.batch.systems import SYSTEMS  # noqa: PLC0415 (not for the list of jobs)

    return Client(SYSTEMS)


def _status(arguments: argparse.Namespace) -> int:
    job: SubmittedJob = arguments.job
    found = _client().status(job, site.load())
    if arguments.json:
        about = {"id": job.id, "name": job.name, "submitted": job.submitted}
        print_json(about | {"state": str(found.state), "status": found.status, "message": found.message})
        return 0
    fields = {"job": job.id, "name": job.name, "submitted": job.submitted, "state": str(found.state)}
    fields |= {"status": _words(found)} if found.state is State.ENDED else {}
    print_fields(fields | ({"message": found.message} if found.message else {}))
    return 0


def _words(found: JobStatus) -> str:
    return str(found.status) if found.status is not None else "not known here: ask the batch system"


def _wait(arguments: argparse.Namespace) -> int:
    job: SubmittedJob = arguments.job
    found = _client().wait(job, site.load())
    if found.state is State.FAULTY:
        raise DayflyError(f"{job.id} cannot start", "ask the batch system for the reason")
    if found.status is None:
        raise DayflyError(f"{job.id} has ended, but its exit status is not known here", "ask the batch system")
    return found.status


def _logs(arguments: argparse.Namespace) -> int:
    job: SubmittedJob = arguments.job
    found = [paths[1 if arguments.errors else 0] for paths in job.outputs()]
    there = [path for path in found if path.is_file()]
    if not there:
        raise NotFound(f"{job.id} has not written any output yet", f"it will be in {found[0]}")
    for path in there:
        with path.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
    sys.stdout.buffer.flush()
    return 0


def _list(arguments: argparse.Namespace) -> int:
    jobs = store.listed()
    if arguments.json:
        print_json([{"id": job.id, **asdict(job)} for job in jobs])
    else:
        print_table(("JOB", "NAME", "SUBMITTED"), [(job.id, job.name, job.submitted) for job in jobs], "no jobs were submitted")
    return 0


def _forget(arguments: argparse.Namespace) -> int:
    _client().forget(arguments.job)
    return 0


def _cancel(arguments: argparse.Namespace) -> int:
    _client().cancel(arguments.job)
    return 0
