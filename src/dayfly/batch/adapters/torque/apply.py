"""Installs what `setup` renders on a host of Torque: the starter on hosts that run jobs, and qsub's submit filter on all
hosts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from dayfly.batch.adapters.torque import setup
from dayfly.batch.setup.site_files import Block, Made, Places, changed, check_made, check_there, is_free, read
from dayfly.errors import FieldError, FileErrors
from dayfly.settings import Settings

BLOCK = Block("torque")


def plan(places: Places, settings: Settings) -> Mapping[Path, Made]:
    """The files to write, without those that are up to date. A host that runs jobs has a folder `mom_priv`.

    Raises `FileErrors` with all conflicts.
    """
    errors: list[FieldError] = []
    texts = setup.files(settings, places.program, places.settings_file, str(places.hooks))
    if not places.system.is_dir():
        errors.append(FieldError(str(places.system), "does not exist", "give Torque's folder with --home"))
    check_there(places.program, "give the path of dayfly on the hosts with --program", errors)
    new = {places.hooks / setup.FILTER: Made(texts[setup.FILTER], 0o755)}
    lines = {setup.SUBMIT: places.hooks / setup.FILTER}
    if (places.system / "mom_priv").is_dir():
        new[places.hooks / setup.STARTER] = Made(texts[setup.STARTER], 0o755)
        lines[setup.MOM] = places.hooks / setup.STARTER
        if setup.PROLOGUE in texts:
            # pbs_mom requires that only root can access it (Administrator Guide, "Prologue and epilogue scripts").
            new[places.system / "mom_priv" / setup.PROLOGUE] = Made(texts[setup.PROLOGUE], 0o500)
    for path in new:
        check_made(path, "torque", errors)
    for name, program in lines.items():
        path = places.system / name
        new[path] = Made(_with_line(read(path, errors), texts[name], program, path, errors))
    if errors:
        raise FileErrors(places.system, errors)
    return changed(new)


def _with_line(text: str, line: str, ours: Path, path: Path, errors: list[FieldError]) -> str:
    """A file of the site with our line, `NAME PROGRAM`; without it if the site's own program calls ours."""
    name = line.split()[0]
    said = re.findall(rf"^\s*{re.escape(name)}\s+(\S+)", BLOCK.without(text, path, errors), re.MULTILINE)
    free = is_free(name, said[-1] if said else "", ours, path.name, errors)
    return BLOCK.within(text, [line.rstrip("\n")] if free else [])
