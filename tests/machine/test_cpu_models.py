"""The CPU that a job sees: what it can execute, what is said of it, and what happens where KVM cannot give the host's own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from dayfly.provision.accelerator import KVM_DEVICE
from tests.framework.site import Site

MSR = "qemu-system-x86_64: error: failed to set MSR 0x10a to 0xc08e163"
NO_HOST = f"""\
{MSR}
qemu-system-x86_64: ../target/i386/kvm/kvm.c:3213: kvm_buf_set_msrs: Assertion `ret == cpu->kvm_msr_buf->nmsrs' failed."""
STAND_IN = """\
#!/bin/bash
# A stand-in for a QEMU whose KVM is nested: it refuses some CPUs as that does, and emulates the others instead of using KVM.
kvm= cpu= argv=()
while (($#)); do
    case $1 in
        -accel) [[ $2 == kvm ]] && kvm=1 && set -- -accel tcg,thread=multi,tb-size=128 "${@:3}" ;;
        -cpu) cpu=$2 ;;
    esac
    argv+=("$1")
    shift
done
if [[ $kvm ]] && [[ $cpu == @(REFUSED) ]]; then
    cat >&2 <<'END'
SAID
END
    kill -ABRT $$
fi
for at in "${!argv[@]}"; do
    [[ ${argv[at]} == host* ]] && argv[at]=max,-erms,-fsrm
done
exec QEMU "${argv[@]}"
"""
AVX2 = """\
#include <immintrin.h>
int main(int count, char **words)
{
    (void)words;
    __m256i sum = _mm256_add_epi32(_mm256_set1_epi32(count), _mm256_set1_epi32(20));
    return _mm256_extract_epi32(sum, 7);
}
"""


@pytest.fixture
def avx2(site: Site) -> str:
    """A program that needs AVX2, in the job's directory; it ends with 21."""
    (site.work / "avx2.c").write_text(AVX2)
    subprocess.run(["gcc", "-mavx2", "-O0", "-static", "-o", "avx2", "avx2.c"], cwd=site.work, check=True)
    return "./avx2"


def nested(site: Site, refused: str) -> None:
    """Have the site's QEMU be the stand-in. Where nobody may open /dev/kvm, no trial would take place."""
    if not os.access(KVM_DEVICE, os.R_OK | os.W_OK):
        pytest.skip(f"{KVM_DEVICE} cannot be opened")
    program = site.folder / "work/qemu-stand-in"
    text = STAND_IN.replace("REFUSED", refused).replace("SAID", NO_HOST).replace("QEMU", str(shutil.which(site.qemu)))
    program.write_text(text)
    program.chmod(0o755)
    site.configure(machine_qemu=str(program), machine_accelerator="auto")


def kvm_found(site: Site) -> dict[str, str]:
    found: list[dict[str, str]] = json.loads(site.dayfly("doctor", "--json").out)
    return next(finding for finding in found if finding["check"] == "KVM")


def test_a_program_that_needs_avx2_runs_where_it_is(site: Site, avx2: str) -> None:
    done = site.run(avx2, options=("--cpu-model", "x86-64-v3"))
    assert (done.status, done.err) == (21, "")
    assert site.record()["machine"]["cpu_model"] == "x86-64-v3"


def test_and_is_told_why_it_died_where_it_is_not(site: Site, avx2: str) -> None:
    """Of itself, or as a shell reports it; a status that the program gives by itself is nothing to do with it."""
    site.configure(machine_cpu_model="x86-64-v2")
    for words in ((avx2,), ("sh", "-c", f"{avx2}; exit $?")):
        died = site.run(*words)
        assert died.status == 132
        assert "illegal instruction (SIGILL)" in died.err.splitlines()[-1]
        assert "CPU is x86-64-v2, emulated (--cpu-model max" in died.err.splitlines()[-1]
        assert site.record()["machine"]["cpu_model"] == "x86-64-v2"
    assert site.run("sh", "-c", "exit 131").err == ""


def test_the_hosts_cpu_needs_kvm(site: Site) -> None:
    refused = site.run("true", options=("--cpu-model", "host"))
    assert (refused.status, "needs KVM" in refused.err) == (125, True)


def test_a_nested_host_that_refuses_one_register(site: Site) -> None:
    """With a stand-in for QEMU: its KVM is emulation, its refusal of -cpu host is in the words of a nested one."""
    nested(site, "host")
    first = site.run("true", options=("--cpu-model", "host"))
    assert (first.status, "cannot use the host's CPU" in first.err) == (0, True), first.err
    machine = site.record()["machine"]
    assert (machine["accelerator"], machine["cpu_model"]) == ("kvm", "host,-arch-capabilities")
    site.configure(machine_qemu=str(site.work / "qemu-stand-in"), machine_accelerator="auto", machine_cpu_model="host")
    second = site.run("true", options=("--cold",))
    assert (second.status, second.err) == (0, "")
    finding = kvm_found(site)
    assert finding["health"] == "ok"
    assert MSR in finding["found"]


def test_a_nested_host_that_has_no_cpu_for_kvm(site: Site) -> None:
    """With the stand-in that refuses them all: the job is emulated, and doctor has QEMU's words."""
    nested(site, "*")
    done = site.run("true")
    assert (done.status, "machines are emulated" in done.err) == (0, True), done.err
    assert site.record()["machine"]["accelerator"] == "tcg"
    finding = kvm_found(site)
    assert finding["health"] == "warning"
    assert MSR in finding["found"]


def test_a_nested_host_that_needs_a_named_model(site: Site) -> None:
    """With the stand-in that refuses the host's CPU in both forms."""
    nested(site, "host*")
    site.configure(machine_qemu=str(site.work / "qemu-stand-in"), machine_accelerator="kvm")
    done = site.run("true")
    assert done.status == 0, done.err
    machine = site.record()["machine"]
    assert (machine["accelerator"], machine["cpu_model"]) == ("kvm", "x86-64-v3")


def test_ps_says_the_model(site: Site) -> None:
    with site.start("run", "debian:12", "--cpu-model", "x86-64-v2", "--", "cat") as job:
        assert site.machine_of(job).cpu_model == "x86-64-v2"
        job.communicate(b"")
    assert job.returncode == 0
