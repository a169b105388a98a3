"""The formats of snapshots and of machines' configurations: what is written is read, and nothing else."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.errors import Refused
from dayfly.guest.boot import BootMode
from dayfly.machine import serialized
from dayfly.machine.config import Accelerator, CpuModel, Disk, MachineConfig, Network, Shape, Share, Start
from dayfly.machine.snapshot import description
from dayfly.machine.snapshot.description import AgentState, Snapshot
from dayfly.process import Lifetime
from tests.unit.machine.test_command import CONFIG

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
CONFIGS = st.builds(
    MachineConfig,
    identity=TEXT,
    label=TEXT,
    accelerator=st.sampled_from(Accelerator),
    cpu=st.sampled_from(CpuModel),
    shape=st.builds(Shape, st.integers(1, 1 << 20), st.integers(1, 1 << 50)),
    boot=st.sampled_from(BootMode),
    command_line=TEXT,
    disks=st.lists(st.builds(Disk, TEXT, TEXT, st.booleans(), st.booleans()), max_size=4).map(tuple),
    shares=st.lists(st.builds(Share, TEXT, TEXT, TEXT, st.booleans()), max_size=4).map(tuple),
    network=st.sampled_from(Network),
    mac=TEXT,
    start=st.sampled_from(Start),
    lifetime=st.sampled_from(Lifetime),
)
SNAPSHOT = Snapshot(replace(CONFIG, shares=(Share("share0", "/a", "/b", readonly=True),)), "7.2.22", AgentState.RUNNING)


@given(CONFIGS)
def test_a_configuration_is_read_as_it_was_written(config: MachineConfig) -> None:
    assert serialized.parse(json.loads(json.dumps(serialized.render(config)))) == config


def test_a_snapshot_is_read_as_it_was_written() -> None:
    assert description.parse(json.loads(json.dumps(description.render(SNAPSHOT)))) == SNAPSHOT


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_what_is_none_is_refused(value: object) -> None:
    for parse in (serialized.parse, description.parse):
        with pytest.raises(Refused):
            parse(value)


@pytest.mark.parametrize("name", serialized.render(SNAPSHOT.config))
@pytest.mark.parametrize("wrong", [None, [1], {"a": 1}, -1, True, 1.5], ids=str)
def test_every_field_of_a_configuration_is_checked(name: str, wrong: object) -> None:
    fields = serialized.render(SNAPSHOT.config)
    with pytest.raises(Refused):
        serialized.parse({**fields, name: wrong})
    with pytest.raises(Refused):
        serialized.parse({other: value for other, value in fields.items() if other != name})


def test_a_later_version_is_refused() -> None:
    fields = description.render(SNAPSHOT)
    with pytest.raises(Refused, match="version 2"):
        description.parse({**fields, "version": 2})
    with pytest.raises(Refused, match="version 3"):
        description.parse({**fields, "config": {**serialized.render(SNAPSHOT.config), "version": 3}})
