"""Renders a site's Slurm configuration from its settings. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from dayfly.batch.jobshell import policy
from dayfly.batch.setup import hooks
from dayfly.image.layout import missing
from dayfly.image.library import Library
from dayfly.image.reference import LibraryKind
from dayfly.settings import Queue, Settings

_MIB = 1024**2
PROLOG = "dayfly-prolog.sh"
EPILOG = "dayfly-epilog.sh"
_MADE = hooks.made_by("slurm")
_EPILOG = """\
#!/bin/sh
# {made}: cleans up after a job. A failing epilog would drain the node.
{program} batch epilog slurm >/dev/null 2>&1
exit 0
"""
_PROLOG = """\
#!/bin/sh
# {made}: makes the folders of the site's settings that a job's user could not make.
# A failing prolog would drain the node.
{folders}exit 0
"""


def files(
    settings: Settings, plugin: str, program: str, settings_file: str, folder: Path, task_prolog: str = ""
) -> Mapping[str, str]:
    """The texts by the names of Slurm's files, which are in `folder`. Paths are those on the nodes.

    `task_prolog` is the site's own.
    """
    scripts = {EPILOG: epilog(program), PROLOG: prolog(settings)}
    return {
        "plugstack.conf": plugstack(settings, plugin, program, settings_file, task_prolog),
        "slurm.conf": "".join(f"{name}={value}\n" for name, value in wanted(settings, folder).items()),
        "job_submit.lua": job_submit(settings),
        **{name: text for name, text in scripts.items() if text},
    }


def wanted(settings: Settings, folder: Path) -> Mapping[str, str]:
    """The settings that slurm.conf must have."""
    said = {"PlugStackConfig": f"{folder}/plugstack.conf", "JobSubmitPlugins": "lua", "Epilog": f"{folder}/{EPILOG}"}
    return said | ({"Prolog": f"{folder}/{PROLOG}"} if prolog(settings) else {})


def epilog(program: str) -> str:
    """The epilog, which runs on a node after a job."""
    return _EPILOG.format(made=_MADE, program=shlex.quote(program))


def prolog(settings: Settings) -> str:
    """The prolog, which runs on a node before a job; empty: none is needed, since users can make their folders themselves.

    `settings` have `{user}` in their paths.
    """
    folders = hooks.users_folders(settings, "SLURM_JOB_USER")
    return _PROLOG.format(made=_MADE, folders=folders) if folders else ""


def plugstack(settings: Settings, plugin: str, program: str, settings_file: str, task_prolog: str = "") -> str:
    """The plugin's line. `required`: if the plugin is missing, jobs fail instead of running on the node itself.

    It names the site's TaskProlog too: Slurm does not run it where the plugin executes the job shell.
    """
    partitions = hooks.always(settings)
    words = ["required", plugin, f"dayfly={program}"]
    words += [f"settings={settings_file}"] if settings_file else []
    words += [f"task_prolog={task_prolog}"] if task_prolog else []
    words += [f"partitions={':'.join(partitions)}"] if partitions else []
    return " ".join(words) + "\n"


def job_submit(settings: Settings) -> str:
    """A job_submit.lua that refuses at submission what the job shell would refuse on the node."""
    rules = {name: policy.rules(settings, name) for name in ("", *settings.batch_queues)}
    library = Library(settings.library_system, LibraryKind.SYSTEM)
    said = {
        "no_machines": policy.no_machines("{queue}"),
        "always": policy.always("{queue}"),
        "unnamed": policy.unnamed(),
        "missing": missing("{image}", library.title),
    }
    logic = resources.files(__package__).joinpath("job_submit.lua").read_text()
    return (
        logic.replace("   -- RULES\n", "".join(f"   [{_quoted(name)}] = {_rule(rule)},\n" for name, rule in rules.items()), 1)
        .replace("   -- WORDS\n", "".join(f"   {name} = {_quoted(str(words))},\n" for name, words in said.items()), 1)
        .replace("LIBRARY", _quoted(str(library.layout.folder)), 1)
    )


def _rule(rule: Queue) -> str:
    """A partition's rules as a Lua table, with the messages for refused jobs."""
    fields = {
        "vm": _quoted(rule.vm),
        "image": _quoted(rule.image),
        "images": f"{{ {', '.join(_quoted(_pattern(glob)) for glob in rule.images)} }}",
        "forbidden": _quoted(str(policy.forbidden("{image}", rule.images))),
        "memory": str(rule.memory // _MIB),
        "too_much": _quoted(str(policy.too_much("{queue}", rule.memory))),
    }
    return f"{{ {', '.join(f'{name} = {value}' for name, value in fields.items())} }}"


def _pattern(glob: str) -> str:
    """A pattern of `batch.images` as a Lua pattern, for an image's full name with its library."""
    full = glob if "/" in glob else f"system/{glob}"
    words = {"*": ".*", "?": "."}
    return "^" + "".join(words.get(letter, letter if letter.isalnum() else f"%{letter}") for letter in full) + "$"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
