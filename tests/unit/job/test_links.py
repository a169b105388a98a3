from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.job.links import followed


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "real/deep").mkdir(parents=True)
    (tmp_path / "relative").symlink_to("real")
    (tmp_path / "absolute").symlink_to(tmp_path / "relative")
    (tmp_path / "real/up").symlink_to("../real/deep")
    (tmp_path / "round").symlink_to("round")
    return tmp_path


@pytest.mark.parametrize(
    "path", ["real/deep", "relative/deep", "absolute/deep", "absolute/up", "real/up", "relative", "real/../relative"]
)
def test_it_leads_where_the_kernel_says(tree: Path, path: str) -> None:
    assert followed(f"{tree}/{path}")[0] == os.path.realpath(tree / path)


def test_every_link_on_the_way(tree: Path) -> None:
    _, links = followed(f"{tree}/absolute/up")
    assert [(link.path, link.target) for link in links] == [
        (f"{tree}/absolute", f"{tree}/relative"),
        (f"{tree}/relative", "real"),
        (f"{tree}/real/up", "../real/deep"),
    ]


def test_links_in_a_circle_are_left_alone(tree: Path) -> None:
    path = f"{tree}/round/x"
    assert followed(path) == (path, ())


def test_what_does_not_exist_is_taken_as_it_stands(tree: Path) -> None:
    assert followed(f"{tree}/relative/none/below") == (f"{tree}/real/none/below", followed(f"{tree}/relative")[1])


@given(st.lists(st.sampled_from(["a", "b", "c", ".", "..", ""]), max_size=8))
def test_paths_without_links(parts: list[str]) -> None:
    path = "/" + "/".join(["no-such-folder", *parts])
    assert followed(path) == (os.path.normpath(path), ())
