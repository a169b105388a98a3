"""A stand-in for the module `pbs` that PBS's daemons give hooks, and for what pbs_mom does with a hook's answer.

Written from OpenPBS's source, as far as our hook uses it: src/modules/python/pbs/v1/{_svr_types,_base_types}.py for what the
objects allow, src/resmom/{mom_hook_func,start_exec}.c for `executed`.
"""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from dayfly.batch.adapters.pbs.setup import hook
from dayfly.settings import Settings

QUEUEJOB, LAUNCH = 0x01, 0x800
CHANGEABLE = ("argv", "env", "progname")
UNKNOWN = ("mem", "vm_share")
"""Resources that this PBS was not told of."""


class EventIncompatibleError(Exception):
    """There is no such parameter of this event."""


class BadAttributeValueError(Exception):
    """It cannot be changed."""


class Event:
    """`pbs.event()`. `shell`: the job is a shell's, whose argv pbs_mom makes after the hooks."""

    def __init__(self, **parameters: object) -> None:
        self.__dict__.update(_parameters=parameters, logged=[], message=None, shell=not parameters.get("argv"))

    def __getattr__(self, name: str) -> Any:
        if name not in self._parameters:
            raise EventIncompatibleError
        return self._parameters[name]

    def __setattr__(self, name: str, value: object) -> None:
        if name not in CHANGEABLE or name not in self._parameters:
            raise BadAttributeValueError(name)
        self._parameters[name] = value

    def accept(self) -> None:
        """Let it happen, and end the hook."""
        self.__dict__["message"] = ""
        raise SystemExit("0")

    def reject(self, message: str = "") -> None:
        """Do not, and end the hook."""
        self.__dict__["message"] = message
        raise SystemExit("255")


class Resources:
    """`Resource_List`: a resource that is not asked for is None, one that PBS was not told of an AttributeError."""

    def __init__(self, asked: dict[str, object]) -> None:
        self._asked = asked

    def __getitem__(self, name: str) -> object:
        if name in UNKNOWN and name not in self._asked:
            raise AttributeError(name)
        return self._asked.get(name)


class Named:
    """What `str` makes the name of: a queue, or a value of one of PBS's types. Always true."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __str__(self) -> str:
        return self._name


def job(exec_vnode: str = "", /, **resources: object) -> SimpleNamespace:
    """`pbs.event().job`."""
    vnodes = Named(exec_vnode) if exec_vnode else None
    return SimpleNamespace(Resource_List=Resources(resources), queue=Named("short"), exec_vnode=vnodes, run_count=1, id="7.pbs")


def launch_event(of: SimpleNamespace, *argv: str, progname: str = "/bin/bash") -> Event:
    """What pbs_mom hands an execjob_launch hook; with `argv` for `qsub -- PROGRAM` and for tasks, without for a job's shell."""
    return Event(type=LAUNCH, job=of, progname=progname, argv=list(argv), env={})


def submit_event(of: SimpleNamespace) -> Event:
    """What the server hands a queuejob hook."""
    return Event(type=QUEUEJOB, job=of)


def executed(event: Event) -> tuple[str, list[str]]:
    """The program and its argv as pbs_mom executes them.

    They come back by a file, one a line and without leading blanks; and a job's shell is called "-" and its name.
    """
    progname, argv = str(event.progname), event.argv
    assert isinstance(argv, list)
    assert not any("\n" in text for text in (progname, *argv))
    argv = [text.lstrip() for text in argv]
    return progname, ["-" + progname.rpartition("/")[2], *argv[1:]] if event.shell else argv


def run(
    monkeypatch: pytest.MonkeyPatch, event: Event, text: str | None = None, node: str = "n1", default_queue: str = "short"
) -> str:
    """Run the hook; the message with which it rejects the event, empty when it accepts it."""
    module = ModuleType("pbs")
    for name, value in {
        "QUEUEJOB": QUEUEJOB,
        "EXECJOB_LAUNCH": LAUNCH,
        "LOG_WARNING": 4,
        "event": lambda: event,
        "get_local_nodename": lambda: node,
        "logmsg": lambda _level, line: event.logged.append(line),
        "server": lambda: SimpleNamespace(default_queue=Named(default_queue) if default_queue else None),
    }.items():
        setattr(module, name, value)
    monkeypatch.setitem(sys.modules, "pbs", module)
    code = compile(text or hook(Settings(), "/opt/dayfly", ""), "dayfly_hook.py", "exec")
    with pytest.raises(SystemExit):
        exec(code, {})
    message: str | None = event.message
    assert message is not None, "the hook neither accepts nor rejects"
    return message
