"""Renders a site's Torque configuration from its settings. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from dayfly.batch.setup import hooks
from dayfly.settings import Settings

STARTER, FILTER, PROLOGUE = "starter", "qsub_filter", "prologue"
MOM, SUBMIT = "mom_priv/config", "torque.cfg"
"""Files in Torque's folder with the paths of the programs: for pbs_mom, and for qsub."""
_FILTER = """\
#!/bin/sh
# Made by `dayfly batch setup torque`: qsub's submit filter, which reads a job's request for a machine.
# If it cannot run, the script is passed on unchanged.
if ! command -v {program} >/dev/null 2>&1; then
	exec cat
fi
exec {program} batch filter torque {settings}-- "$@"
"""
_PROLOGUE = """\
#!/bin/sh
# Made by `dayfly batch setup torque`: makes the folders of the site's settings that a job's user could not make.
# pbs_mom calls it as root, with the job's number, its user and more (Administrator Guide, "Prologue and epilogue scripts").
user=$2
{folders}exit 0
"""


def files(settings: Settings, program: str, settings_file: str, folder: str) -> Mapping[str, str]:
    """The files by name. `folder` is the programs' folder on the hosts that run or submit jobs."""
    option = f"--settings {shlex.quote(settings_file)} " if settings_file else ""
    folders = hooks.users_folders(settings, "user")
    return {
        STARTER: hooks.filled(
            __package__,
            "starter.sh",
            ALWAYS=shlex.quote(" ".join(hooks.always(settings))),
            PROGRAM=shlex.quote(program),
            SETTINGS=shlex.quote(settings_file),
        ),
        FILTER: _FILTER.format(program=shlex.quote(program), settings=option),
        **({PROLOGUE: _PROLOGUE.format(folders=folders)} if folders else {}),
        MOM: f"$job_starter {folder}/{STARTER}\n",
        SUBMIT: f"SUBMITFILTER {folder}/{FILTER}\n",
    }
