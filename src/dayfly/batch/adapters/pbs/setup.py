"""Renders a site's PBS configuration from its settings. Pure."""

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
"""The site's own hooks run before: ours replaces what is launched, so it must be the last."""


def files(settings: Settings, program: str, settings_file: str) -> Mapping[str, str]:
    """The files by name: the hook, and the commands for qmgr."""
    return {FILE: hook(settings, program, settings_file), "qmgr": "".join(f"{line}\n" for line in commands(FILE))}


def hook(settings: Settings, program: str, settings_file: str) -> str:
    """The hook's text."""
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


def requests() -> Mapping[str, str]:
    """The command that creates each resource, by its name. Without the flag m the hosts' hooks do not see it."""
    return {f"vm_{request}": f"create resource vm_{request} type=string,flag=m" for request in hooks.REQUESTS}


def settings_of_hook(file: str) -> list[str]:
    """The commands for an existing hook; `file` has its text."""
    return [
        f'set hook {HOOK} event = "{EVENTS}"',
        f"set hook {HOOK} order = {ORDER}",
        f"import hook {HOOK} application/x-python default {file}",
        f"set hook {HOOK} enabled = true",
    ]


def commands(file: str) -> list[str]:
    """All commands for a new installation."""
    return [*requests().values(), f"create hook {HOOK}", *settings_of_hook(file)]
