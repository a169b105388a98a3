"""Modules of the standard library that are loaded when something in them is used, and not when they are imported.

asyncio imports `inspect`, `traceback` and, through `subprocess`, `locale`; pathlib imports `ntpath`, and `ipaddress` through
`urllib`. Jobs use nothing of them or of what they import (docs/decisions/0180). `importlib.util.LazyLoader` does not help: the
`import` statement looks at a module's `__spec__`, and a module of LazyLoader's is loaded at the first look at anything.
"""

from __future__ import annotations

import importlib.util
import sys
from _thread import RLock
from types import ModuleType

_LOCK = RLock()
_LOADING: set[ModuleType] = set()


class _Later(ModuleType):
    """A module that is empty until it is asked for a name that it does not have."""

    def __getattr__(self, name: str) -> object:
        with _LOCK:  # another thread waits until the whole module is there
            if type(self) is _Later and self not in _LOADING:
                _load(self)
        return ModuleType.__getattribute__(self, name)


def _load(module: ModuleType) -> None:
    spec = module.__spec__
    if spec is None or spec.loader is None:
        return
    _LOADING.add(module)
    try:
        spec.loader.exec_module(module)
    finally:
        _LOADING.remove(module)
    module.__class__ = ModuleType  # from now on it is an ordinary one


def load(*names: str) -> None:
    """Load these modules when they are used. Those that are there already, and those that do not exist, are left as they are."""
    for name in names:
        spec = None if name in sys.modules else importlib.util.find_spec(name)
        if spec is not None:
            module = importlib.util.module_from_spec(spec)
            module.__class__ = _Later
            sys.modules[name] = module
