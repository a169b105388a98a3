"""The store of detached machines: what is listed lives, and what is gone is removed."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.errors import Refused
from dayfly.machine import instances
from dayfly.machine.instances import Instance, Instances, keeper_of
from dayfly.process import Lifetime
from tests.unit.machine.test_command import CONFIG
from tests.unit.machine.test_snapshot import CONFIGS

DETACHED = replace(CONFIG, lifetime=Lifetime.DETACHED)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def written(folder: Path, change: Callable[[dict[str, Any]], object] = lambda _: None) -> Path:
    """The file of a machine that this process would keep, with something changed. Nobody holds its lock."""
    keeper = keeper_of(os.getpid())
    assert keeper is not None
    fields = json.loads(instances.render(Instance(DETACHED, keeper, 1.0)))
    change(fields)
    path = folder / f"{DETACHED.identity}.json"
    path.write_text(json.dumps(fields))
    return path


def test_a_machine_is_listed_until_its_keeper_lets_it_go(tmp_path: Path) -> None:
    store = Instances(tmp_path / "instances")
    assert store.all() == []
    with store.keeping(DETACHED) as instance:
        assert store.all() == [instance]
        assert instance.keeper.pid == os.getpid()
        assert (tmp_path / f"instances/{DETACHED.identity}.json").stat().st_mode & 0o777 == 0o600
    assert store.all() == []
    assert names(tmp_path / "instances") == []


def test_the_oldest_is_first(tmp_path: Path) -> None:
    store = Instances(tmp_path)
    with store.keeping(replace(DETACHED, identity="bbbbbbbbbb")), store.keeping(replace(DETACHED, identity="aaaaaaaaaa")):
        assert [instance.config.identity for instance in store.all()] == ["bbbbbbbbbb", "aaaaaaaaaa"]


STALE: dict[str, Callable[[dict[str, Any]], object]] = {
    "another boot": lambda fields: fields["keeper"].update(boot="0"),
    "a process that started later": lambda fields: fields["keeper"].update(started=fields["keeper"]["started"] - 1),
    "no such process": lambda fields: fields["keeper"].update(pid=1 << 30),
    "a process id that is none": lambda fields: fields["keeper"].update(pid=-1),
}


@pytest.mark.parametrize("change", STALE.values(), ids=STALE)
def test_what_a_killed_keeper_left_is_removed(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = written(tmp_path, change)
    assert Instances(tmp_path).all() == []
    assert not path.exists()


def test_a_file_that_is_locked_stays(tmp_path: Path) -> None:
    """In another PID namespace the keeper has another number: its lock is the same."""
    path = written(tmp_path, STALE["no such process"])
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert Instances(tmp_path).all() == []
        assert path.exists()


LEFT_ALONE: dict[str, Callable[[dict[str, Any]], object]] = {
    "of another host": lambda fields: fields["keeper"].update(host="elsewhere"),
    "of another version": lambda fields: fields.update(version=99),
    "of another machine": lambda fields: fields["config"].update(identity="../../x"),
}


@pytest.mark.parametrize("change", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_what_cannot_be_judged_is_neither_listed_nor_removed(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = written(tmp_path, change)
    assert Instances(tmp_path).all() == []
    assert path.exists()


def test_a_file_that_is_cut_is_not_listed(tmp_path: Path) -> None:
    path = written(tmp_path)
    content = path.read_bytes()
    assert len(Instances(tmp_path).all()) == 1
    for size in range(0, len(content) - 2, 7):
        path.write_bytes(content[:size])
        assert Instances(tmp_path).all() == []


@given(CONFIGS, st.floats(0, 1e12))
def test_an_instance_is_read_as_it_was_written(config: Any, begun: float) -> None:
    keeper = keeper_of(os.getpid())
    assert keeper is not None
    instance = Instance(config, keeper, begun)
    assert instances.parse(instances.render(instance)) == instance


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_anything_else_is_refused(value: object) -> None:
    with pytest.raises(Refused):
        instances.parse(json.dumps(value).encode())
