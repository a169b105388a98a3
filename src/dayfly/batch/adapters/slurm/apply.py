"""Installs what `setup` renders in Slurm's folder, and finds conflicts with the site's own slurm.conf."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from dayfly.batch.adapters.slurm import setup
from dayfly.batch.setup.site_files import Block, Made, changed, check_made, check_there, is_free, read
from dayfly.errors import FieldError, FileErrors
from dayfly.settings import Settings
from dayfly.values import dataclass

BLOCK = Block("slurm")
_CONF = "give the path of slurm.conf with --conf"
_SETTING = re.compile(r"^\s*(\w+)\s*=\s*(.*?)\s*(?:#.*)?$")
_INCLUDE = re.compile(r"^\s*include\s+(\S+)", re.IGNORECASE)


@dataclass(frozen=True)
class Wanted:
    """The paths: slurm.conf, and on the nodes the plugin, the program and the site's settings (empty: the default)."""

    conf: Path
    plugin: str
    program: str
    settings_file: str


def plan(wanted: Wanted, settings: Settings) -> Mapping[Path, Made]:
    """The files to write, slurm.conf last, without those that are up to date.

    Raises `FileErrors` with all conflicts.
    """
    folder, errors = wanted.conf.parent, list[FieldError]()
    text = read(wanted.conf, errors, _CONF)
    said = _said(BLOCK.without(text, wanted.conf, errors), folder, errors)
    plugstack = Path(said.get("plugstackconfig", str(folder / "plugstack.conf")))
    lines = _lines(said, setup.wanted(settings, folder), errors)
    hint = "install it with `make -C spank install`, or give its path with --plugin"
    check_there(wanted.plugin, hint, errors)
    check_there(wanted.program, "give the path of dayfly on the nodes with --program", errors)
    new = {
        folder / "job_submit.lua": Made(setup.job_submit(settings)),
        folder / setup.EPILOG: Made(setup.epilog(wanted.program), 0o755),
    }
    if prolog := setup.prolog(settings):
        new[folder / setup.PROLOG] = Made(prolog, 0o755)
    for path in new:
        check_made(path, "slurm", errors)
    new[plugstack] = Made(_plugstack(wanted, settings, plugstack, said.get("taskprolog", ""), errors))
    new[wanted.conf] = Made(BLOCK.within(text, lines))
    if errors:
        raise FileErrors(folder, errors)
    return changed(new)


def _lines(said: Mapping[str, str], wanted: Mapping[str, str], errors: list[FieldError]) -> list[str]:
    """The wanted lines that are missing in slurm.conf."""
    lacking = [name for name in wanted if not said.get(name.lower())]
    plugins = said.get("jobsubmitplugins", "")
    if plugins and "lua" not in [plugin.removeprefix("job_submit/") for plugin in plugins.split(",")]:
        errors.append(FieldError("slurm.conf", f"JobSubmitPlugins={plugins}", f"change it to JobSubmitPlugins={plugins},lua"))
    for name in ("Prolog", "Epilog"):
        if name in wanted:
            ours = Path(wanted[name])
            is_free(name, said.get(name.lower(), ""), ours, "slurm.conf", errors, known_by=ours.name)
    tracking = said.get("proctracktype", "")
    if tracking != "proctrack/cgroup":
        hint = "set ProctrackType=proctrack/cgroup, so that suspend and kill reach all processes"
        errors.append(FieldError("slurm.conf", f"ProctrackType={tracking}" if tracking else "ProctrackType is not set", hint))
    return [f"{name}={wanted[name]}" for name in lacking]


def task_prolog(conf: Path) -> str:
    """The TaskProlog in a slurm.conf; empty if there is none, or no such file."""
    return _said(read(conf, []), conf.parent, []).get("taskprolog", "")


def _plugstack(wanted: Wanted, settings: Settings, path: Path, task_prolog: str, errors: list[FieldError]) -> str:
    text = read(path, errors)
    if "dayfly_spank.so" in BLOCK.without(text, path, errors):
        errors.append(FieldError(path.name, "already has a line for dayfly_spank.so", "remove that line"))
    line = setup.plugstack(settings, wanted.plugin, wanted.program, wanted.settings_file, task_prolog)
    return BLOCK.within(text, [line.rstrip("\n")])


def _said(text: str, folder: Path, errors: list[FieldError]) -> dict[str, str]:
    """The settings outside of our block, including those of included files, by name in lower case."""
    said: dict[str, str] = {}
    for line in text.splitlines():
        included, setting = _INCLUDE.match(line), _SETTING.match(line)
        if included:
            said |= _said(read(folder / included[1], errors, _CONF), folder, errors)
        elif setting:
            said[setting[1].lower()] = setting[2].strip('"')
    return said
