from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from dayfly import inherited


def environment() -> dict[bytes, bytes]:
    return {name: value for name, value in inherited.environment().items() if name != b"PYTEST_CURRENT_TEST"}


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in list(os.environ):
        monkeypatch.delenv(name)
    return monkeypatch


def test_the_environment_is_the_callers(given: pytest.MonkeyPatch) -> None:
    given.setenv("DAYFLY_IGNORED_SIGNALS", "0")
    given.setenv("DAYFLY_CALLERS_PYTHONHOME", "/there")
    given.setenv("A-B", "1")
    given.setenv("RAW", os.fsdecode(b"\xff"))
    assert environment() == {b"PYTHONHOME": b"/there", b"A-B": b"1", b"RAW": b"\xff"}
    assert b"DAYFLY_CALLERS_PYTHONHOME" in inherited.environment_for_dayfly()


def test_what_python_sets_in_the_c_locale_is_left_out(given: pytest.MonkeyPatch) -> None:
    given.setenv("LC_CTYPE", "C.UTF-8")
    given.setattr(inherited, "_was_given", lambda _: False)
    assert environment() == {}
    given.setattr(inherited, "_was_given", lambda _: True)
    assert environment() == {b"LC_CTYPE": b"C.UTF-8"}


@pytest.mark.parametrize(
    ("told", "expected"), [("", False), ("0000000000001000", True), ("0", False), ("rubbish", False), ("f" * 400, False)]
)
def test_whether_pipes_signal_was_ignored(given: pytest.MonkeyPatch, told: str, expected: bool) -> None:
    """Python ignores it itself, so what the launcher says counts; a variable that somebody else has set is no reason to fail."""
    given.setenv("DAYFLY_IGNORED_SIGNALS", told)
    assert inherited.ignored(signal.SIGPIPE) is expected
    assert bool(inherited.signals()[0] & 1 << signal.SIGPIPE - 1) is expected


def test_the_directory_as_it_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real/below").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path / "real/below")
    here, shown = str(tmp_path / "real/below"), str(tmp_path / "link/below")
    assert inherited.directory(shown) == shown
    for wrong in ("", "below", f"{tmp_path}/link/./below", f"{tmp_path}/real/../link/below", "/", f"{shown}/", "/proc/self/cwd"):
        assert inherited.directory(wrong) == here


def test_a_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(FileNotFoundError):
        inherited.directory("/")
