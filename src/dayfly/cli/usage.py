"""`dayfly usage`: usage records of jobs."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from dayfly import files
from dayfly import settings as site
from dayfly.app.records import Filter, find, matching, of_everybody
from dayfly.cli.listing import add_json, print_fields, print_json, print_table
from dayfly.cli.parser import Parser
from dayfly.errors import NotFound
from dayfly.job.records import Records
from dayfly.job.usage import MachineUsed, UsageRecord
from dayfly.units import format_duration, format_size

DESCRIPTION = "Show the usage records of jobs. Each job has one, including those that failed or were killed."
_CONSOLE_LIMIT = 1024**3
_DAY = re.compile(r"\d{4}(-\d{2}(-\d{2})?)?")


def configure(parser: Parser) -> None:
    """Add the arguments of `dayfly usage`."""
    below = parser.add_subparsers(metavar="COMMAND", required=True, title="commands", dest="usage_command")
    shown = below.add_parser("list", help="list records, oldest first", description="List usage records, oldest first.")
    shown.add_argument("--user", metavar="NAME", help="only this user's; a name or a number")
    shown.add_argument(
        "--image",
        metavar="IMAGE",
        help="only those of this image: its name, with or without the tag, or the beginning of its digest",
    )
    shown.add_argument(
        "--day",
        type=_day,
        metavar="DAY",
        help="only those begun on this day (UTC), like 2026-11-23; 2026-11 is a month, 2026 a year",
    )
    shown.add_argument("--job", metavar="NUMBER", help="only this batch job's, like 42, or one array task's, like 42_3")
    shown.add_argument("--exit", type=int, metavar="STATUS", help="only those with this exit status", dest="status")
    shown.add_argument("--state", choices=["running", "ended", "lost"], help="only those in this state")
    _add_all(shown)
    add_json(shown)
    shown.set_defaults(act=_list)
    one = below.add_parser("show", help="show one record", description="Show one usage record.")
    one.add_argument("id", metavar="ID", help="the record's id; its beginning is enough")
    one.add_argument("--console", action="store_true", help="show what the machine wrote to its console instead")
    _add_all(one)
    add_json(one)
    one.set_defaults(act=_show)


def _add_all(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--all-users", action="store_true", help="of all users, where {user} is in the site's records.folder: for administrators"
    )


def execute(arguments: argparse.Namespace) -> int:
    """List or show."""
    every = of_everybody() if arguments.all_users else [Records(site.load().records_folder)]
    status: int = arguments.act(arguments, every)
    return status


def _day(text: str) -> str:
    _, month, day = (*text.split("-"), "01", "01")[:3]
    if _DAY.fullmatch(text) is None or not 1 <= int(month) <= 12 or not 1 <= int(day) <= 31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day: write it like 2026-11-23, or 2026-11 for a month")
    return text


def _list(arguments: argparse.Namespace, every: Sequence[Records]) -> int:
    wanted = Filter(arguments.user, arguments.image, arguments.day, arguments.status, arguments.state, arguments.job)
    shown = [record for record, _ in matching(every, wanted, own_only=arguments.all_users)]
    if arguments.json:
        print_json([asdict(record) for record in shown])
    else:
        titles = ("ID", "BEGUN", "USER", "IMAGE", "START", "STATE", "EXIT", "REASON", "TIME", "COMMAND")
        print_table(titles, [_row(record) for record in shown], "no usage records" + (" match" if wanted != Filter() else " yet"))
    return 0


def _row(record: UsageRecord) -> tuple[str, ...]:
    end = record.end
    return (
        record.id,
        record.begun[:19].replace("T", " "),
        record.user,
        record.image.reference or record.image.digest[:19],
        record.machine.start,
        record.state,
        "" if end is None else str(end.status),
        "" if end is None else end.reason,
        format_duration(record.phases["gone"]) if "gone" in record.phases else "",
        " ".join(" ".join(record.command).split())[:60],
    )


def _show(arguments: argparse.Namespace, every: Sequence[Records]) -> int:
    record, records = find(every, arguments.id, own_only=arguments.all_users)
    if arguments.console:
        print(_console(records.console(record)), end="")
    elif arguments.json:
        print_json(asdict(record))
    else:
        print_fields(_fields(record))
    return 0


def _console(path: Path) -> str:
    try:
        return files.read(path, _CONSOLE_LIMIT).decode(errors="replace")
    except FileNotFoundError:
        raise NotFound(f"the console of this job was not saved: {path} does not exist") from None


def _from(machine: MachineUsed) -> str:
    """The template, or why there is none."""
    return f" {machine.template}" if machine.template else f" ({machine.cold_reason})" if machine.cold_reason else ""


def _fields(record: UsageRecord) -> dict[str, str]:
    machine, used, end = record.machine, record.used, record.end
    fields = {
        "id": record.id,
        "state": record.state,
        "begun": record.begun,
        "user": f"{record.user} ({record.uid}) on {record.host}",
        "command": " ".join(record.command),
        "directory": record.directory,
        "image": f"{record.image.reference} {record.image.digest} ({record.image.library})",
        "image's origin": (record.image.origin or "-") + (f" of {record.image.endorser}" if record.image.endorser else ""),
        "machine": f"{machine.cpus} CPU, {format_size(machine.memory)}, scratch {format_size(machine.scratch)}",
        "start": f"{machine.start}{_from(machine)}, boot {machine.boot}",
        "run by": f"{machine.accelerator or '-'}, CPU {machine.cpu_model or '?'}, QEMU {machine.qemu or '?'}",
        "network": machine.network,
        "phases": ", ".join(f"{name} {format_duration(at)}" for name, at in record.phases.items()),
    }
    if record.batch:
        fields["batch job"] = ", ".join(f"{name} {value}" for name, value in record.batch.items())
    if used.cpu_user is not None and used.cpu_system is not None:
        fields["guest CPU"] = f"{format_duration(used.cpu_user)} user, {format_duration(used.cpu_system)} system"
    if used.cpu_host is not None:
        fields["host CPU"] = format_duration(used.cpu_host)
    if used.peak_memory is not None:
        fields["peak memory"] = format_size(used.peak_memory)
    if used.bytes_in is not None and used.bytes_out is not None:
        fields["streams"] = f"{format_size(used.bytes_in)} in, {format_size(used.bytes_out)} out"
    if end is not None:
        fields["end"] = f"exit {end.status}, {end.reason}" + (f": {end.message}" if end.message else "")
    return fields
