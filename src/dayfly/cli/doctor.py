"""`dayfly doctor`: checks of everything that Dayfly depends on, with fixes."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict

from dayfly.app.diagnosis import Health, examine
from dayfly.cli.listing import add_json, print_json
from dayfly.cli.parser import Parser

DESCRIPTION = """\
Check everything that Dayfly depends on, and say how to fix what is wrong. The exit status is 0 unless `dayfly run` cannot work.
"""


def configure(parser: Parser) -> None:
    """Add the arguments of `dayfly doctor`."""
    add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Run all checks, and print the findings."""
    findings = list(examine())
    if arguments.json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            sys.stdout.write(f"{finding.health:8} {finding.check}: {finding.found}\n")
            if finding.fix:
                sys.stdout.write(f"{'':8} -> {finding.fix}\n")
    return 1 if any(finding.health is Health.FAILED for finding in findings) else 0
