"""A detached machine outlives who started it, is found by others, and ends with its keeper."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dayfly.machine.instances import Instance, Instances
from dayfly.machine.processes import Running, running
from tests.framework.site import IMAGE, Site, eventually, kill

STARTER = """
import os, sys
from dayfly import process
reader, writer = os.pipe()
keeper = [sys.executable, "-m", "tests.framework.keeper", sys.argv[1], str(writer)]
process.spawn(keeper, stderr=2, keep=[writer], lifetime=process.Lifetime.DETACHED)
os.close(writer)
print(os.read(reader, 64).decode(), flush=True)
sys.stdin.read()
"""


def started(site: Site) -> tuple[Instance, Instances]:
    """A detached machine whose starter was killed by SIGKILL."""
    environment = site.environment() | {"XDG_STATE_HOME": str(site.folder / "work/state")}
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, IMAGE],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert starter.stdout is not None
    assert starter.stdin is not None
    identity = starter.stdout.readline().decode().strip()
    starter.kill()
    starter.wait()
    starter.stdin.close()
    starter.stdout.close()
    store = Instances(site.folder / "work/state/dayfly/instances")
    (instance,) = store.all()
    assert instance.config.identity == identity
    return instance, store


def machine_of(instance: Instance) -> list[Running]:
    return [machine for machine in running() if machine.identity == instance.config.identity]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_outlives_its_starter_and_ends_with_its_keeper(site: Site, number: signal.Signals) -> None:
    instance, store = started(site)
    try:
        (machine,) = machine_of(instance)
        assert machine.owner == instance.keeper.pid
        assert os.getsid(instance.keeper.pid) == instance.keeper.pid
        with site.start("run", IMAGE, "--no-share", "--", "sleep", "60") as job:
            owned = site.machine_of(job)
            shown = {one["identity"]: one["lifetime"] for one in json.loads(site.dayfly("ps", "--json").out)}
            assert (shown[instance.config.identity], shown[owned.identity]) == ("detached", "owned")
            job.terminate()
        os.kill(instance.keeper.pid, number)
        eventually(lambda: not machine_of(instance))
        eventually(lambda: store.all() == [])
        assert list((site.folder / "work/state/dayfly/instances").iterdir()) == []
    finally:
        kill(instance.keeper.pid)
