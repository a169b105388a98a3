"""Writing what `setup` renders into a Slurm's folder: the site's lines stay, ours are in a marked block, what changes is kept.

Which files are written is decided before any is, and only when nothing is in doubt.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Mapping
from pathlib import Path

from dayfly import files
from dayfly.batch.slurm import setup
from dayfly.errors import FileMistakes, Mistake
from dayfly.settings import Settings
from dayfly.values import dataclass

BEGIN = "# BEGIN dayfly: `dayfly batch setup slurm --apply` writes what is between these lines"
END = "# END dayfly"
_LIMIT = 16 * 1024 * 1024
_SETTING = re.compile(r"^\s*(\w+)\s*=\s*(.*?)\s*(?:#.*)?$")
_INCLUDE = re.compile(r"^\s*include\s+(\S+)", re.IGNORECASE)


@dataclass(frozen=True)
class Wanted:
    """Where everything is: slurm.conf, and on the nodes the plugin, the program and the site's settings (empty: the usual)."""

    conf: Path
    plugin: str
    program: str
    settings_file: str


def plan(wanted: Wanted, settings: Settings) -> Mapping[Path, str]:
    """The files to write with their new content; those that are as they should be are left out.

    Raises `FileMistakes` with everything that stands against it.
    """
    folder, mistakes = wanted.conf.parent, list[Mistake]()
    text = _read(wanted.conf, mistakes, needed=True)
    said = _said(_without_block(text, wanted.conf, mistakes), folder, mistakes)
    plugstack = Path(said.get("plugstackconfig", str(folder / "plugstack.conf")))
    lines = _lines(said, setup.wanted(settings, folder), mistakes)
    mistakes += [
        Mistake(str(path), "is not there", hint)
        for path, hint in (
            (wanted.plugin, "`make -C spank install` puts the plugin there; --plugin names another place"),
            (wanted.program, "--program says where the nodes have dayfly"),
        )
        if not Path(path).is_file()
    ]
    lua = folder / "job_submit.lua"
    new = {
        wanted.conf: _with_block(text, lines),
        plugstack: _plugstack(wanted, settings, plugstack, said.get("taskprolog", ""), mistakes),
        lua: setup.job_submit(settings),
        folder / setup.EPILOG: setup.epilog(wanted.program),
    }
    if prolog := setup.prolog(settings):
        new[folder / setup.PROLOG] = prolog
    for path in new.keys() - {wanted.conf, plugstack}:
        there = _read(path, mistakes, needed=False)
        if there and setup.MADE not in there[:400]:
            hint = f"take what it needs from `dayfly batch setup slurm --show {path.name}`, or move it away"
            mistakes.append(Mistake(path.name, "is the site's own", hint))
    if mistakes:
        raise FileMistakes(folder, mistakes)
    return {path: content for path, content in new.items() if _read(path, [], needed=False) != content}


def write(planned: Mapping[Path, str]) -> list[Path]:
    """Write the files; what was there before is kept beside each, as the returned paths. They appear whole, slurm.conf last."""
    kept: list[Path] = []
    suffix = time.strftime(".before-dayfly-%Y%m%dT%H%M%SZ", time.gmtime())
    for path, content in sorted(planned.items(), key=lambda item: item[0].name == "slurm.conf"):
        mode = 0o755 if path.name in (setup.PROLOG, setup.EPILOG) else 0o644
        if path.exists():
            mode = stat.S_IMODE(path.stat().st_mode)
            backup = path.with_name(path.name + suffix)
            files.write(backup, path.read_bytes(), mode)
            kept.append(backup)
        files.write(path, content.encode(errors="surrogateescape"), mode)
    return kept


def _lines(said: Mapping[str, str], wanted: Mapping[str, str], mistakes: list[Mistake]) -> list[str]:
    """What slurm.conf lacks of what is wanted."""
    lacking = [name for name in wanted if not said.get(name.lower())]
    plugins = said.get("jobsubmitplugins", "")
    if plugins and "lua" not in [plugin.removeprefix("job_submit/") for plugin in plugins.split(",")]:
        mistakes.append(Mistake("slurm.conf", f"JobSubmitPlugins={plugins}", f"make it JobSubmitPlugins={plugins},lua"))
    for name in ("Prolog", "Epilog"):
        theirs, ours = said.get(name.lower(), ""), wanted.get(name, "")
        if theirs and ours and theirs != ours and not _calls(theirs, Path(ours).name):
            mistakes.append(Mistake("slurm.conf", f"{name}={theirs}", f"let that call {ours}"))
    tracking = said.get("proctracktype", "")
    if tracking != "proctrack/cgroup":
        hint = "with ProctrackType=proctrack/cgroup, suspending and killing reach everything"
        mistakes.append(Mistake("slurm.conf", f"ProctrackType={tracking}" if tracking else "ProctrackType is not said", hint))
    return [f"{name}={wanted[name]}" for name in lacking]


def _calls(script: str, ours: str) -> bool:
    try:
        return ours in Path(script).read_text(errors="replace")
    except OSError:
        return False


def task_prolog(conf: Path) -> str:
    """The TaskProlog of a slurm.conf; empty where it has none, or is not there."""
    return _said(_read(conf, [], needed=False), conf.parent, []).get("taskprolog", "")


def _plugstack(wanted: Wanted, settings: Settings, path: Path, task_prolog: str, mistakes: list[Mistake]) -> str:
    text = _read(path, mistakes, needed=False)
    if "dayfly_spank.so" in _without_block(text, path, mistakes):
        mistakes.append(Mistake(path.name, "names dayfly_spank.so already", "remove that line"))
    line = setup.plugstack(settings, wanted.plugin, wanted.program, wanted.settings_file, task_prolog)
    return _with_block(text, [line.rstrip("\n")])


def _said(text: str, folder: Path, mistakes: list[Mistake]) -> dict[str, str]:
    """The settings outside of our block, also those of included files, by their names in small letters."""
    said: dict[str, str] = {}
    for line in text.splitlines():
        included, setting = _INCLUDE.match(line), _SETTING.match(line)
        if included:
            said |= _said(_read(folder / included[1], mistakes, needed=True), folder, mistakes)
        elif setting:
            said[setting[1].lower()] = setting[2].strip('"')
    return said


def _read(path: Path, mistakes: list[Mistake], *, needed: bool) -> str:
    try:
        return files.read(path, _LIMIT).decode(errors="surrogateescape")
    except FileNotFoundError:
        if needed:
            mistakes.append(Mistake(str(path), "is not there", "--conf names slurm.conf"))
    except OSError as error:
        mistakes.append(Mistake(str(path), f"cannot be read: {error.strerror}"))
    return ""


def _without_block(text: str, path: Path, mistakes: list[Mistake]) -> str:
    lines = text.splitlines()
    marks = [line for line in lines if line in (BEGIN, END)]
    if not marks:
        return text
    if marks != [BEGIN, END]:
        hint = "remove those lines, and what is between them"
        mistakes.append(Mistake(path.name, "has more or less than one beginning and end of dayfly's block", hint))
        return text
    return "\n".join([*lines[: lines.index(BEGIN)], *lines[lines.index(END) + 1 :]])


def _with_block(text: str, lines: list[str]) -> str:
    """The text with our block: where it was, or at the end. Without lines there is none."""
    block = "\n".join([BEGIN, *lines, END]) + "\n" if lines else ""
    before, begin, rest = text.partition(BEGIN + "\n")
    if begin:
        return before + block + rest.partition(END + "\n")[2]
    return text + ("" if not text or text.endswith("\n") or not block else "\n") + block


def check_writable(planned: Mapping[Path, str]) -> None:
    """Raises `FileMistakes` for every folder that cannot be written to, before anything is."""
    folders = sorted({path.parent for path in planned})
    mistakes = [
        Mistake(str(folder), "cannot be written to", "run it as root") for folder in folders if not os.access(folder, os.W_OK)
    ]
    if mistakes:
        raise FileMistakes("Slurm's files", mistakes)
