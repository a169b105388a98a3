"""A stand-in for the module `pbs` that PBS's daemons give hooks, as far as ours uses it: written from the PBS Hooks Guide."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from dayfly.batch.pbs.setup import hook
from dayfly.settings import Settings

QUEUEJOB, LAUNCH = 0x01, 0x800


class Accepted(SystemExit):
    """How `event.accept` ends a hook."""


class Rejected(SystemExit):
    """How `event.reject` ends one."""


class Event(SimpleNamespace):
    """`pbs.event()`."""

    def accept(self) -> None:
        raise Accepted

    def reject(self, message: str = "") -> None:
        raise Rejected(message)


class Resources(dict[str, object]):
    """`Resource_List`: what is not asked for is None, what PBS does not know an error."""

    def __missing__(self, name: str) -> None:
        if name in ("vm_share", "mem"):
            raise KeyError(name)


def job(exec_vnode: str = "", /, **resources: object) -> SimpleNamespace:
    """`pbs.event().job`."""
    return SimpleNamespace(Resource_List=Resources(resources), queue="short", exec_vnode=exec_vnode, run_count=1, id="7.pbs")


def launch_event(of: SimpleNamespace, *argv: str, progname: str = "/bin/bash") -> Event:
    """What pbs_mom hands an execjob_launch hook."""
    return Event(type=LAUNCH, job=of, progname=progname, argv=list(argv), env={})


def run(monkeypatch: pytest.MonkeyPatch, event: Event, text: str | None = None, node: str = "n1") -> str:
    """Run the hook; the message with which it rejects the event, empty when it accepts it."""
    module = ModuleType("pbs")
    logged: list[str] = []
    for name, value in {
        "QUEUEJOB": QUEUEJOB,
        "EXECJOB_LAUNCH": LAUNCH,
        "LOG_WARNING": 4,
        "event": lambda: event,
        "get_local_nodename": lambda: node,
        "logmsg": lambda _level, line: logged.append(line),
    }.items():
        setattr(module, name, value)
    monkeypatch.setitem(sys.modules, "pbs", module)
    code = compile(text or hook(Settings(), "/opt/dayfly", ""), "dayfly_hook.py", "exec")
    try:
        exec(code, {"__name__": "__main__"})
    except Accepted:
        event.logged = logged
        return ""
    except Rejected as rejected:
        return str(rejected)
    raise AssertionError("the hook neither accepts nor rejects")
