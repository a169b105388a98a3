"""The machine by which a host shows whether KVM works, and with which CPU."""

from pathlib import Path

import pytest

from dayfly.cli.notices import warn
from dayfly.machine.config import Accelerator, CpuModel, Processor
from dayfly.machine.failure import Part, StartFailed
from dayfly.provision import accelerator
from dayfly.provision.accelerator import Found, Verdict
from dayfly.provision.probe import Probe, tried
from dayfly.settings import Settings

HOST, REDUCED = Processor(Accelerator.KVM, CpuModel.HOST), Processor(Accelerator.KVM, CpuModel.HOST_REDUCED)
EMULATED = Processor(Accelerator.TCG, CpuModel.V3)
WAYS = (HOST, REDUCED, EMULATED)


def failed(part: Part) -> StartFailed:
    return StartFailed(part, f"{part} failed", "")


@pytest.fixture
def verdict(tmp_path: Path) -> Verdict:
    return Verdict(tmp_path, CpuModel.AUTO)


def test_qemu_that_ends_may_do_with_another_cpu(verdict: Verdict, capsys: pytest.CaptureFixture[str]) -> None:
    trial = Probe(WAYS, verdict, warn)
    assert trial.goes_on(failed(Part.QEMU))
    assert trial.way == REDUCED
    trial.succeeded()
    assert verdict.read() == Found(CpuModel.HOST_REDUCED, "QEMU failed")
    assert "cannot use the host's CPU" in capsys.readouterr().err


def test_a_guest_that_hangs_would_hang_with_another_cpu(verdict: Verdict, capsys: pytest.CaptureFixture[str]) -> None:
    trial = Probe(WAYS, verdict, warn)
    assert trial.seconds(180) == accelerator.TRIAL_SECONDS
    assert trial.goes_on(failed(Part.KERNEL))
    assert (trial.way, trial.seconds(180)) == (EMULATED, 180)
    trial.succeeded()
    assert verdict.read() == Found(None, "the kernel failed")
    assert "machines are emulated" in capsys.readouterr().err


@pytest.mark.parametrize("part", [Part.ROOT, Part.AGENT])
def test_an_image_that_is_broken_says_nothing_of_kvm(verdict: Verdict, part: Part) -> None:
    assert not Probe(WAYS, verdict, warn).goes_on(failed(part))


def test_without_emulation_there_is_time(verdict: Verdict) -> None:
    trial = Probe((HOST, REDUCED), verdict, warn)
    assert trial.seconds(180) == 180
    assert not trial.goes_on(failed(Part.KERNEL))
    assert trial.goes_on(failed(Part.QEMU))
    assert not trial.goes_on(failed(Part.QEMU))
    assert verdict.read() == Found(None, "the kernel failed")  # so that the next job for this CPU is told at once


def test_where_no_cpu_works_none_is_tried(tmp_path: Path) -> None:
    Verdict(tmp_path, CpuModel.AUTO).write(Found(None, "MSRs"))
    assert Verdict(tmp_path, CpuModel.HOST).read() == Found(None, "MSRs")
    Verdict(tmp_path, CpuModel.AUTO).write(Found(CpuModel.V2))
    assert Verdict(tmp_path, CpuModel.HOST).read() is None


def test_what_is_known_is_no_trial(verdict: Verdict) -> None:
    Probe((EMULATED,), verdict, warn).succeeded()
    assert verdict.read() is None


def test_all_ways_fail(tmp_path: Path) -> None:
    asked: list[Processor] = []

    def attempt(way: Processor, _: float) -> None:
        asked.append(way)
        raise failed(Part.QEMU)

    with pytest.raises(StartFailed):
        tried(Settings(cache_folder=tmp_path, machine_accelerator="tcg"), attempt, warn)
    assert asked == [Processor(Accelerator.TCG, accelerator.EMULATED[CpuModel.AUTO])]
