"""What a site adds to PBS's configuration, rendered from its settings. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources

from dayfly.batch.setup import hooks
from dayfly.settings import Settings

HOOK = "dayfly"
"""The hook's name in PBS."""
FILE = "dayfly_hook.py"
EVENTS = "queuejob,execjob_launch"
ORDER = 900
"""Hooks of the site's own have their turn before: ours changes what is launched, and has to see the last of it."""


def files(settings: Settings, program: str, settings_file: str) -> Mapping[str, str]:
    """The texts by their names: the hook, and what qmgr is told."""
    return {FILE: hook(settings, program, settings_file), "qmgr": "".join(f"{line}\n" for line in commands(FILE))}


def hook(settings: Settings, program: str, settings_file: str) -> str:
    """The hook's whole text."""
    content = resources.files(__package__).joinpath("hook.PY").read_text()
    words = {
        "@PROGRAM@": repr(program),
        "@SETTINGS@": repr(settings_file),
        "@ALWAYS@": repr(hooks.always(settings)),
        "@ENVIRONMENT@": repr(hooks.ENVIRONMENT),
        "@START@": repr(f'{hooks.HAND_OVER} "$@"'),
    }
    for word, value in words.items():
        content = content.replace(word, value)
    return content


def wishes() -> Mapping[str, str]:
    """What creates each resource that jobs can ask for, by its name. Without the flag m the hosts' hooks do not see it."""
    return {f"vm_{wish}": f"create resource vm_{wish} type=string,flag=m" for wish in hooks.WISHES}


def settings_of_hook(file: str) -> list[str]:
    """What qmgr is told of the hook, which is there already; `file` holds its text."""
    return [
        f'set hook {HOOK} event = "{EVENTS}"',
        f"set hook {HOOK} order = {ORDER}",
        f"import hook {HOOK} application/x-python default {file}",
        f"set hook {HOOK} enabled = true",
    ]


def commands(file: str) -> list[str]:
    """All that qmgr is told where nothing of it is there yet."""
    return [*wishes().values(), f"create hook {HOOK}", *settings_of_hook(file)]
