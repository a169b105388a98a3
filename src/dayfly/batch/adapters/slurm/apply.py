"""Bringing what `setup` renders into a Slurm's folder: what of slurm.conf is the site's, and what stands against ours."""

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
_CONF = "--conf names slurm.conf"
_SETTING = re.compile(r"^\s*(\w+)\s*=\s*(.*?)\s*(?:#.*)?$")
_INCLUDE = re.compile(r"^\s*include\s+(\S+)", re.IGNORECASE)


@dataclass(frozen=True)
class Wanted:
    """Where everything is: slurm.conf, and on the nodes the plugin, the program and the site's settings (empty: the usual)."""

    conf: Path
    plugin: str
    program: str
    settings_file: str


def plan(wanted: Wanted, settings: Settings) -> Mapping[Path, Made]:
    """The files to write, slurm.conf last; those that are as they should be are left out.

    Raises `FileErrors` with everything that stands against it.
    """
    folder, errors = wanted.conf.parent, list[FieldError]()
    text = read(wanted.conf, errors, _CONF)
    said = _said(BLOCK.without(text, wanted.conf, errors), folder, errors)
    plugstack = Path(said.get("plugstackconfig", str(folder / "plugstack.conf")))
    lines = _lines(said, setup.wanted(settings, folder), errors)
    hint = "`make -C spank install` puts the plugin there; --plugin names another place"
    check_there(wanted.plugin, hint, errors)
    check_there(wanted.program, "--program says where the nodes have dayfly", errors)
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
    """What slurm.conf lacks of what is wanted."""
    lacking = [name for name in wanted if not said.get(name.lower())]
    plugins = said.get("jobsubmitplugins", "")
    if plugins and "lua" not in [plugin.removeprefix("job_submit/") for plugin in plugins.split(",")]:
        errors.append(FieldError("slurm.conf", f"JobSubmitPlugins={plugins}", f"make it JobSubmitPlugins={plugins},lua"))
    for name in ("Prolog", "Epilog"):
        if name in wanted:
            ours = Path(wanted[name])
            is_free(name, said.get(name.lower(), ""), ours, "slurm.conf", errors, known_by=ours.name)
    tracking = said.get("proctracktype", "")
    if tracking != "proctrack/cgroup":
        hint = "with ProctrackType=proctrack/cgroup, suspending and killing reach everything"
        errors.append(FieldError("slurm.conf", f"ProctrackType={tracking}" if tracking else "ProctrackType is not said", hint))
    return [f"{name}={wanted[name]}" for name in lacking]


def task_prolog(conf: Path) -> str:
    """The TaskProlog of a slurm.conf; empty where it has none, or is not there."""
    return _said(read(conf, []), conf.parent, []).get("taskprolog", "")


def _plugstack(wanted: Wanted, settings: Settings, path: Path, task_prolog: str, errors: list[FieldError]) -> str:
    text = read(path, errors)
    if "dayfly_spank.so" in BLOCK.without(text, path, errors):
        errors.append(FieldError(path.name, "names dayfly_spank.so already", "remove that line"))
    line = setup.plugstack(settings, wanted.plugin, wanted.program, wanted.settings_file, task_prolog)
    return BLOCK.within(text, [line.rstrip("\n")])


def _said(text: str, folder: Path, errors: list[FieldError]) -> dict[str, str]:
    """The settings outside of our block, also those of included files, by their names in small letters."""
    said: dict[str, str] = {}
    for line in text.splitlines():
        included, setting = _INCLUDE.match(line), _SETTING.match(line)
        if included:
            said |= _said(read(folder / included[1], errors, _CONF), folder, errors)
        elif setting:
            said[setting[1].lower()] = setting[2].strip('"')
    return said
