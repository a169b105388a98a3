import os
from pathlib import Path

import pytest

from dayfly.errors import Refused
from dayfly.job.description import Folder, hides_image, mounts, parse_folder
from dayfly.machine.command import MOST_SHARES
from dayfly.machine.config import Shape
from dayfly.provision.host import check_shape, host_memory

SCRATCH = 1 << 30


def test_folders(tmp_path: Path) -> None:
    assert parse_folder(str(tmp_path)) == Folder(str(tmp_path), readonly=False)
    assert parse_folder(f"{tmp_path}:ro") == Folder(str(tmp_path), readonly=True)
    assert parse_folder(f"{tmp_path}/x/..:rw") == Folder(str(tmp_path), readonly=False)


def test_a_folder_with_a_colon(tmp_path: Path) -> None:
    odd = tmp_path / "a:b"
    odd.mkdir()
    assert parse_folder(str(odd)) == Folder(str(odd), readonly=False)


@pytest.mark.parametrize("path", ["/", "/usr", "/etc:ro", "/usr/../proc", "/var/"])
def test_the_images_own_folders_stay(path: str) -> None:
    with pytest.raises(Refused, match="hide"):
        parse_folder(path)


def test_what_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "none"):
        with pytest.raises(Refused, match="not a folder"):
            parse_folder(str(path))


def test_below_the_images_own_is_allowed() -> None:
    assert not hides_image("/var/tmp/job")


def test_parents_are_mounted_first_and_each_path_once() -> None:
    shares, _ = mounts([Folder("/a/b/c"), Folder("/a-x"), Folder("/a/b"), Folder("/a"), Folder("/a/b", readonly=True)])
    assert [(share.target, share.readonly) for share in shares] == [
        ("/a", False),
        ("/a/b", True),
        ("/a/b/c", False),
        ("/a-x", False),
    ]
    assert len({share.tag for share in shares}) == 4


def test_more_folders_than_a_machine_has_places_for() -> None:
    with pytest.raises(Refused, match="shared folders"):
        mounts([Folder(f"/x{number}") for number in range(MOST_SHARES + 1)])


def test_a_shape_that_fits() -> None:
    check_shape(Shape(1, 128 << 20), SCRATCH)


@pytest.mark.parametrize(
    ("shape", "scratch", "match"),
    [
        (Shape(len(os.sched_getaffinity(0)) + 1, 512 << 20), SCRATCH, "CPUs"),
        (Shape(1, 64 << 20), SCRATCH, "at least 128 MiB"),
        (Shape(1, 1 << 50), SCRATCH, "memory requested"),
        (Shape(1, 512 << 20), 1024, "scratch"),
    ],
)
def test_shapes_that_do_not(shape: Shape, scratch: int, match: str) -> None:
    with pytest.raises(Refused, match=match):
        check_shape(shape, scratch)


def test_host_memory_is_at_most_the_hosts() -> None:
    assert 0 < host_memory() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
