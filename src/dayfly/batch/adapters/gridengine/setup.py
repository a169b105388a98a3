"""Renders a site's Grid Engine configuration from its settings. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from dayfly.batch.setup import hooks
from dayfly.settings import Settings

STARTER, METHOD, JSV, PROLOG = "starter", "method", "jsv", "prolog"
_PROLOG = """\
#!/bin/sh
# Made by `dayfly batch setup gridengine`: makes the folders that the site's settings give a job's user, who could not make them.
user=$1
{folders}exit 0
"""
_END = 10.0
"""Seconds that a job shell may take to write the usage record on a busy disk."""
_INCLUDE = "util/resources/jsv/jsv_include.sh"


def files(settings: Settings, program: str, settings_file: str, root: Path) -> Mapping[str, str]:
    """The programs by name, for a folder that every host sees. `root` is SGE_ROOT."""
    quoted = shlex.quote(program)
    option = f"--settings {shlex.quote(settings_file)}" if settings_file else ""
    folders = hooks.users_folders(settings, "user")
    always = shlex.quote(" ".join(hooks.always(settings)))
    return {
        STARTER: hooks.filled(__package__, "starter.sh", ALWAYS=always, PROGRAM=quoted, SETTINGS=settings_file),
        METHOD: hooks.filled(__package__, "method.sh", GRACE=f"{settings.job_grace + _END:g}"),
        JSV: hooks.filled(__package__, "jsv.sh", ALWAYS=always, INCLUDE=str(root / _INCLUDE), PROGRAM=quoted, SETTINGS=option),
        **({PROLOG: _PROLOG.format(folders=folders)} if folders else {}),
    }


def complexes() -> Mapping[str, str]:
    """The lines for `qconf -mc` (complex(5)), by the name of the resource."""
    rest = "RESTRING    ==    YES         NO         NONE     0"
    requests = {f"vm_{request}": f"vm_{request:<12} vm_{request:<12} {rest}" for request in hooks.REQUESTS}
    memory = "m_mem_free          m_mem_free          MEMORY      <=    YES         YES        0        0"
    return {**requests, "m_mem_free": memory}


def queue(settings: Settings, folder: Path) -> Mapping[str, str]:
    """The attributes (queue_conf(5)) of a queue whose jobs may have machines."""
    method = folder / METHOD
    prolog = {"prolog": f"root@{folder / PROLOG} $job_owner"} if hooks.users_folders(settings, "user") else {}
    return {
        **prolog,
        "starter_method": str(folder / STARTER),
        "suspend_method": f"{method} suspend $job_pid",
        "resume_method": f"{method} resume $job_pid",
        "terminate_method": f"{method} terminate $job_pid",
    }


def configuration(folder: Path) -> Mapping[str, str]:
    """The attributes of the global configuration (sge_conf(5))."""
    return {"jsv_url": f"script:{folder / JSV}"}
