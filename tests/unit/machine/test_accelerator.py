"""Which way a machine is run: by KVM or emulation, with which CPU."""

import json
from pathlib import Path

import pytest

from dayfly.errors import Refused
from dayfly.machine.command import CPUS
from dayfly.machine.config import CPU_CHOICES, Accelerator, CpuModel, Processor
from dayfly.provision import accelerator
from dayfly.provision.accelerator import EMULATED, Found, Verdict, choose

KVM, TCG = Accelerator.KVM, Accelerator.TCG
HOSTS = [CpuModel.HOST, CpuModel.HOST_REDUCED]


@pytest.fixture(autouse=True)
def kvm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "openable", lambda: True)


def verdict(folder: Path, wanted: CpuModel = CpuModel.AUTO, found: Found | None = None) -> Verdict:
    made = Verdict(folder, wanted)
    if found is not None:
        made.write(found)
    return made


def test_every_cpu_has_qemus_words_and_every_wish_an_answer() -> None:
    assert set(CPUS) == set(CpuModel) - {CpuModel.AUTO}
    assert set(EMULATED) == set(CPU_CHOICES) - {CpuModel.HOST}
    assert set(EMULATED.values()) <= set(CPUS)


def test_a_host_of_which_nothing_is_known_makes_a_trial(tmp_path: Path) -> None:
    """First the host's own CPU, as much of it as a hypervisor allows, then one that is put together; and then emulation."""
    ways = choose("auto", verdict(tmp_path))
    assert [way.cpu for way in ways if way.accelerator is KVM] == [*HOSTS, CpuModel.V3, CpuModel.V2]
    assert ways[-1] == Processor(TCG, EMULATED[CpuModel.AUTO])


def test_kvm_alone_is_never_emulation(tmp_path: Path) -> None:
    failed = verdict(tmp_path, found=Found(None, "why"))
    assert {way.accelerator for way in choose("kvm", failed)} == {KVM}


@pytest.mark.parametrize("cpu", [CpuModel.HOST, CpuModel.HOST_REDUCED, CpuModel.V2])
def test_what_a_trial_found_holds(tmp_path: Path, cpu: CpuModel) -> None:
    known = verdict(tmp_path, found=Found(cpu, "why"))
    assert choose("auto", known) == choose("kvm", known) == (Processor(KVM, cpu),)
    assert known.read() == Found(cpu, "why")


def test_where_it_failed_machines_are_emulated(tmp_path: Path) -> None:
    assert choose("auto", verdict(tmp_path, found=Found(None, "why"))) == (Processor(TCG, EMULATED[CpuModel.AUTO]),)


def test_of_another_cpu_nothing_is_known(tmp_path: Path) -> None:
    verdict(tmp_path, CpuModel.V2, Found(CpuModel.V2))
    assert choose("auto", verdict(tmp_path, CpuModel.V3)) == (Processor(KVM, CpuModel.V3), Processor(TCG, CpuModel.V3))


@pytest.mark.parametrize("model", [CpuModel.V2, CpuModel.V3, CpuModel.MAX])
def test_what_is_asked_for_is_emulated(tmp_path: Path, model: CpuModel) -> None:
    assert choose("tcg", verdict(tmp_path, model)) == (Processor(TCG, model),)


def test_the_hosts_cpu_cannot_be_emulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refused, match="accelerator is tcg"):
        choose("tcg", verdict(tmp_path, CpuModel.HOST))
    with pytest.raises(Refused, match="do not run under KVM"):
        choose("auto", verdict(tmp_path, CpuModel.HOST, Found(None)))
    monkeypatch.setattr(accelerator, "openable", lambda: False)
    with pytest.raises(Refused, match="/dev/kvm cannot be used"):
        choose("auto", verdict(tmp_path, CpuModel.HOST))


def test_where_kvm_cannot_be_opened_there_is_no_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "openable", lambda: False)
    assert choose("auto", verdict(tmp_path)) == (Processor(TCG, EMULATED[CpuModel.AUTO]),)
    assert choose("kvm", verdict(tmp_path)) == (Processor(KVM, CpuModel.HOST),)


@pytest.mark.parametrize("content", ["", "[1]", "{}", '{"boot": "another", "cpu": "host"}', "[" * 10000])
def test_a_verdict_that_says_nothing_of_now(tmp_path: Path, content: str) -> None:
    made = verdict(tmp_path, found=Found(CpuModel.HOST))
    (file,) = tmp_path.iterdir()
    file.write_text(content)
    assert made.read() is None


@pytest.mark.parametrize("cpu", ["x86-64-v3", "host,hv-passthrough", 3, None])
def test_a_verdict_names_no_cpu_that_nobody_wanted(tmp_path: Path, cpu: object) -> None:
    made = verdict(tmp_path, CpuModel.HOST, Found(CpuModel.HOST))
    (file,) = tmp_path.iterdir()
    file.write_text(json.dumps(json.loads(file.read_text()) | {"cpu": cpu}))
    assert made.read() == Found(None)
