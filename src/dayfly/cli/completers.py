"""Completion of arguments: names of images, recipes, records, templates. Imported only while a shell completes.

Output of a completer would appear in the middle of the command line, so failures are silent.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable

import argcomplete
from argcomplete.completers import DirectoriesCompleter, FilesCompleter, SuppressCompleter

from dayfly import settings as site
from dayfly.errors import DayflyError
from dayfly.image.search import Libraries
from dayfly.imagebuild import recipe
from dayfly.provision.templates.lookup import stores
from dayfly.provision.templates.maintenance import stored


def images(prefix: str, **_: object) -> list[str]:
    """The names of all images; with `system/` or `user/` if the prefix begins with it."""
    try:
        libraries = Libraries(site.load())
    except (DayflyError, OSError):
        return []
    names: set[str] = set()
    for library in (libraries.system, libraries.user):
        try:
            found = [entry.name for entry in library.index().entries if entry.name]
        except (DayflyError, OSError):
            continue
        qualified = f"{library.kind}/"
        names.update(found)
        if prefix and (prefix.startswith(qualified) or qualified.startswith(prefix)):
            names.update(qualified + name for name in found)
    return sorted(names)


def recipes(prefix: str, **rest: object) -> list[str]:
    """The recipes that come with Dayfly, and files."""
    return [*sorted(recipe.shipped()), *FilesCompleter(["toml"])(prefix, **rest)]


def records(prefix: str, **_: object) -> list[str]:
    """The ids of usage records. The prefix may be anything, so it does not become a part of a pattern."""
    try:
        folder = site.load().records_folder
        return [path.stem for path in folder.glob("????-??-??/*.json") if path.stem.startswith(prefix)]
    except (DayflyError, OSError):
        return []


def templates(prefix: str, **_: object) -> list[str]:
    """The names of all templates."""
    try:
        found = [one.name for store in stores(site.load()) for one in stored(store)]
    except (DayflyError, OSError):
        return []
    return [name for name in found if name.startswith(prefix)]


BY_METAVAR: dict[str, Callable[..., Iterable[str]]] = {
    "IMAGE": images,
    "RECIPE": recipes,
    "ID": records,
    "TEMPLATE": templates,
    "FILE": FilesCompleter(),
    "PATH": DirectoriesCompleter(),
    "PATH[:ro]": DirectoriesCompleter(),
    "COMMAND": FilesCompleter(),
    "LIST": FilesCompleter(),
    "TRUSTED": FilesCompleter(),
    "REVOKED": FilesCompleter(),
}


def complete(parser: argparse.ArgumentParser) -> None:
    """Print the completions for the shell, and exit. The job's command, which is not parsed, is completed with this
    host's files.
    """
    if " -- " in os.environ.get("COMP_LINE", ""):
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                action.choices["run"].add_argument("command", metavar="COMMAND", nargs="*")
    attach(parser)
    argcomplete.autocomplete(parser)


def attach(parser: argparse.ArgumentParser) -> None:
    """Give each argument its completer by its name in the help. Other arguments get none."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                attach(below)
        elif action.choices is None and action.nargs != 0:
            metavar = action.metavar if isinstance(action.metavar, str) else ""
            action.completer = BY_METAVAR.get(metavar, SuppressCompleter())  # type: ignore[attr-defined]  # argcomplete's
