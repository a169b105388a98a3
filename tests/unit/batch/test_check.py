"""What is refused where a job is submitted, in the words of the job shell."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dayfly.batch.jobshell.check import check
from dayfly.batch.jobshell.request import Request
from dayfly.errors import DayflyError
from dayfly.image.library import Library
from dayfly.image.reference import LibraryKind, Name
from dayfly.settings import Queue, Settings
from tests.unit.image.examples import CONFIG, LAYERS


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    Library(tmp_path / "library", LibraryKind.SYSTEM).add(CONFIG, LAYERS, Name("debian", "12"))
    queues = {"never": Queue(vm="never"), "always": Queue(vm="always", image="debian:12", memory=1024**3)}
    return replace(Settings(), library_system=tmp_path / "library", batch_images=("debian:*", "user/own:*"), batch_queues=queues)


def asked(settings: Settings, queue: str = "", memory: int = 0, maps: int = 0, slots: int = 1, **words: str) -> str:
    """Why a job is refused; nothing where it is not."""
    request = Request(("job",), memory_mib=memory, address_space_mib=maps, **words)  # type: ignore[arg-type]
    try:
        check(request, queue, settings, slots)
    except DayflyError as error:
        return str(error)
    return ""


def test_what_is_not_refused(settings: Settings) -> None:
    assert asked(settings) == ""
    assert asked(settings, image="none") == ""
    assert asked(settings, image="debian:12", network="nat") == ""
    assert asked(settings, image="user/own:3") == ""
    assert asked(settings, "always") == ""


def test_what_is(settings: Settings) -> None:
    assert asked(settings, image="el:9") == "the image el:9 is not allowed here (allowed: debian:*, user/own:*)"
    place = f"in the system library {settings.library_system} (`dayfly image list`"
    assert asked(settings, image="debian:99").startswith(f"there is no image debian:99 {place}")
    assert asked(settings, "never", image="debian:12").startswith("never has no virtual machines (")
    assert asked(settings, "always", image="none").startswith("every job of always runs in a virtual machine (")
    assert asked(settings, network="nat").startswith("the job names no image, and the site has no default image (")
    assert asked(settings, image="debian:12;id") == "'debian:12;id' is not an image's name or digest (write it like debian:12)"
    assert "names no image: " in asked(settings, image="user/Own:3")
    assert asked(settings, "always", memory=1025).startswith(
        "a machine of always has at most 1 GiB of memory, but the job requests"
    )
    assert asked(settings, "always", memory=1024) == asked(settings, "other", memory=1025, image="debian:12") == ""


def test_a_job_in_which_no_machine_fits(settings: Settings) -> None:
    least = settings.batch_overhead // 1024**2 + 128
    assert asked(settings, "always", memory=64).startswith("the job has 64 MiB of memory, but a machine needs ")
    assert asked(settings, "always", memory=least).startswith(f"the job has {least} MiB of memory, but a machine needs ")
    assert asked(settings, "always", memory=least + 1) == ""
    assert asked(settings, "always", maps=700).startswith("the job's address space is limited to 700 MiB, but QEMU needs")
    assert asked(settings, "always", maps=895).endswith("(ask for 896 MiB or more (h_vmem, ulimit -v))")
    assert asked(settings, "always", maps=896) == ""
    assert asked(settings, "always", memory=64, maps=128, slots=8) == "", "all together have enough"
    assert asked(settings, "other", memory=64, maps=1) == "", "it has no machine"


@pytest.mark.parametrize("share", ["data", "./data:ro", "/data,data", "~/data"])
def test_relative_paths_of_folders(settings: Settings, share: str) -> None:
    relative = share.split(",")[-1]
    expected = f"the shared folder {relative!r} is not an absolute path (write it with a leading /)"
    assert asked(settings, "always", share=share) == expected
    assert asked(settings, "always", share="/data:ro,/sw") == asked(settings, "always", share="") == ""


def test_where_the_library_is_not_seen_the_node_says_it(settings: Settings, tmp_path: Path) -> None:
    assert asked(replace(settings, library_system=tmp_path / "none"), image="debian:99") == ""
    everything = replace(settings, batch_images=())
    assert asked(everything, image="mine:1") == "", "it may be the user's own"
    assert asked(everything, image="system/mine:1").startswith("there is no image mine:1 in the system library")
