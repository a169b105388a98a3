"""`dayfly image inspect`: the report of an image as text or JSON, and `--fail-on`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict

from dayfly.cli.listing import print_fields, print_json, table
from dayfly.cli.notices import warn
from dayfly.cli.parser import UsageError
from dayfly.image.inspection import gate
from dayfly.image.inspection.accounts import Password
from dayfly.image.inspection.gate import Failure
from dayfly.image.inspection.image import Inspected, inspect, render
from dayfly.image.inspection.report import Contents
from dayfly.image.search import Libraries
from dayfly.settings import Settings
from dayfly.units import format_size


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Run the command: 0, or `gate.EXIT_STATUS` if a condition of `--fail-on` is met."""
    conditions = gate.parse(arguments.fail_on) if arguments.fail_on is not None else ()
    if any(condition.kind is gate.Kind.VULNERABLE for condition in conditions) and arguments.osv is None:
        raise UsageError("--fail-on vulnerable needs a list of vulnerabilities", "give one with --osv PATH")
    library, _, notice = Libraries(settings).find(arguments.image)
    found = inspect(library, arguments.image, arguments.osv)
    failures = gate.judge(found, conditions)
    if arguments.json:
        print_json(render(found) | {"failures": [asdict(failure) for failure in failures] if conditions else None})
    else:
        if notice:
            warn(notice)
        _print(found)
        _print_failures(failures)
    return gate.EXIT_STATUS if failures else 0


def _print(found: Inspected) -> None:
    inside = found.contents
    system = inside.os.get("PRETTY_NAME", "") or "unknown"
    signed = ", ".join(found.endorsers) or "not by a trusted key or list"
    starts = "started by its init" if found.starts_services else "not started: Dayfly's agent is the init"
    entered = sum(one.password is not Password.NONE for one in inside.accounts)
    fields = {
        "image": found.name,
        "digest": found.digest,
        "origin": found.stopped or ", ".join(found.origins),
        "signed": signed,
        "created": f"{found.created}, {found.age_days} days ago",
        "size": f"{format_size(found.files_size)} of files, {format_size(found.stored_size)} stored",
        "os": system,
        "kernel version": found.kernel_version,
        "packages": str(len(inside.packages)),
        "accounts": f"{len(inside.accounts)}, {entered} of them with a password, or with an empty one",
        "services": f"{len(inside.services)} enabled, {starts}",
    }
    print_fields(fields)
    for title, heads, rows in _sections(inside):
        if rows:
            sys.stdout.write(f"\n{title}\n{table(heads, rows)}")


def _sections(inside: Contents) -> list[tuple[str, Sequence[str], list[tuple[str, ...]]]]:
    with_password = [one for one in inside.accounts if one.password is not Password.NONE]
    return [
        (
            "Passwords",
            ("USER", "UID", "SHELL", "PASSWORD"),
            [(one.name, str(one.uid), one.shell, one.scheme or one.password) for one in with_password],
        ),
        (
            "Keys that allow login",
            ("USER", "FILE", "TYPE", "FINGERPRINT", "COMMENT"),
            [(key.user, key.path, key.type, key.fingerprint, key.comment) for key in inside.keys],
        ),
        ("SSH host keys", ("FILE",), [(key.path,) for key in inside.host_keys]),
        (
            "Set-uid and set-gid files",
            ("MODE", "UID", "GID", "FILE"),
            [(file.mode, str(file.uid), str(file.gid), file.path) for file in inside.setid],
        ),
        (
            "Files with capabilities",
            ("FILE", "CAPABILITIES"),
            [(file.path, ", ".join(file.capabilities)) for file in inside.capabilities],
        ),
        ("Enabled services", ("UNIT", "WANTED BY"), [(one.unit, ", ".join(one.wanted_by)) for one in inside.services]),
        (
            "Addresses that units listen on",
            ("UNIT", "KIND", "ADDRESS"),
            [(one.unit, one.kind if one.network else f"{one.kind}, a path", one.address) for one in inside.listeners],
        ),
        (
            "Known vulnerabilities",
            ("PACKAGE", "VERSION", "FIXED IN", "ID", "WHAT"),
            [(one.package, one.version, one.fixed or "-", one.id, one.summary) for one in inside.vulnerabilities or ()],
        ),
        (
            "Not read",
            ("OF", "FILE", "WHY"),
            [(noted.section, noted.path, noted.why) for noted in inside.unread],
        ),
    ]


def _print_failures(failures: Sequence[Failure]) -> None:
    for failure in failures:
        warn(f"{failure.condition}: {failure.why}")
