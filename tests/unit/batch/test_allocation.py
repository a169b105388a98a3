import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.batch.jobshell.allocation import Allocation, Host, shape
from dayfly.errors import Refused
from dayfly.machine.config import Shape
from dayfly.provision.host import LEAST_MEMORY

MIB = 1024**2
OVERHEAD = 256 * MIB


def test_qemus_part_comes_out_of_the_allocation() -> None:
    host = Host(2, 2048 * MIB, 8)
    assert shape(Allocation(2, 2048 * MIB), host, OVERHEAD) == Shape(2, 1785 * MIB)


def test_a_cgroup_with_room_beside_the_allocation() -> None:
    host = Host(2, 3000 * MIB, 8)
    assert shape(Allocation(2, 2048 * MIB), host, OVERHEAD).memory == 2048 * MIB


def test_memory_that_is_not_divided_goes_by_cpus() -> None:
    assert shape(Allocation(2, 0), Host(8, 16384 * MIB, 8), OVERHEAD) == Shape(2, 3825 * MIB)


def test_too_little_says_how_much_is_enough() -> None:
    with pytest.raises(Refused) as caught:
        shape(Allocation(1, 200 * MIB), Host(1, 200 * MIB, 1), OVERHEAD)
    assert caught.value.hint == "ask the batch system for 385 MiB or more"
    assert shape(Allocation(1, 385 * MIB), Host(1, 385 * MIB, 1), OVERHEAD).memory == LEAST_MEMORY


@given(st.integers(0, 300), st.integers(0, 1 << 44), st.integers(1, 64), st.integers(1, 256), st.integers(1 << 20, 1 << 44))
def test_never_more_than_the_allocation_and_the_host(cpus: int, memory: int, tasks: int, usable: int, limit: int) -> None:
    host = Host(usable, limit, 256)
    try:
        found = shape(Allocation(cpus, memory, tasks), host, OVERHEAD)
    except Refused:
        return
    assert 1 <= found.cpus <= max(cpus or usable, 1)
    assert found.cpus <= usable
    assert LEAST_MEMORY <= found.memory <= (memory or limit)
    if memory:
        assert (found.memory + OVERHEAD) * tasks <= limit
