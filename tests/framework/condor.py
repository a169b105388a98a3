"""A submit description as HTCondor's own library reads it: there are no daemons of it where the tests run."""

from __future__ import annotations

from dataclasses import dataclass

import classad2  # type: ignore[import-untyped]
import htcondor2  # type: ignore[import-untyped]


@dataclass(frozen=True)
class Process:
    """One job of a cluster: the program with its arguments, and commands of the description as they are for it."""

    argv: list[str]
    said: dict[str, str]


def processes(description: str, cluster: int) -> list[Process]:
    """The jobs that a description queues, with all macros expanded."""
    submit = htcondor2.Submit(description)
    submit["Cluster"] = str(cluster)
    found = []
    for number in range(int(submit.getQArgs() or "1")):
        submit["Process"] = str(number)
        said = {name: submit.expand(name) for name in list(submit.keys())}
        found.append(Process([said["executable"], *arguments(said["arguments"])], said))
    return found


def arguments(quoted: str) -> list[str]:
    """The arguments in the new syntax (condor_submit(1), `arguments`), split by HTCondor's own function for that."""
    assert quoted[0] == quoted[-1] == '"'
    assert "$$(" not in quoted, "condor_schedd would put something else there"
    inner = quoted[1:-1].replace('""', '"')
    split: list[str] = classad2.ExprTree("argsToList(text)").eval(classad2.ClassAd({"text": inner}))
    return split
