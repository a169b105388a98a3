"""Modules that are loaded when they are used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def run(code: str, folder: Path | None = None) -> None:
    """Run this code in a Python that has imported hardly anything; modules may be in the folder."""
    path = f"import sys; sys.path.insert(0, {str(folder)!r})\n" if folder else ""
    subprocess.run([sys.executable, "-I", "-c", path + code], check=True, timeout=60)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a module that takes its time, and looks at itself meanwhile."""
    tmp_path.joinpath("slow.py").write_text(
        "import sys, time\nassert not hasattr(sys.modules[__name__], 'last')\ntime.sleep(0.5)\nlast = 1\n"
    )
    tmp_path.joinpath("broken.py").write_text("first = 1\nraise OSError(24, 'Too many open files')\n")
    return tmp_path


def test_a_module_is_loaded_when_it_is_used() -> None:
    run("""
import sys
from dayfly import lazily
assert "locale" not in sys.modules
lazily.load("locale")
import locale
assert "getlocale" not in vars(locale)
assert locale.getlocale and locale is sys.modules["locale"] and type(locale) is type(sys)
assert not hasattr(locale, "there_is_no_such_name")
""")


def test_what_is_there_and_what_does_not_exist_stays_as_it_is() -> None:
    run("""
import sys
from inspect import signature
from dayfly import lazily
lazily.load("inspect", "sys", "there_is_no_such_module")
assert sys.modules["inspect"].signature is signature
assert "there_is_no_such_module" not in sys.modules
""")


def test_names_are_imported_from_it() -> None:
    run("""
from dayfly import lazily
lazily.load("locale")
from locale import getlocale
assert getlocale
""")


def test_several_threads_see_the_whole_module(folder: Path) -> None:
    code = """
from concurrent.futures import ThreadPoolExecutor
from dayfly import lazily
lazily.load("slow")
import slow
with ThreadPoolExecutor(4) as pool:
    assert [future.result() for future in [pool.submit(lambda: slow.last) for _ in range(4)]] == [1] * 4
"""
    run(code, folder)


def test_a_failure_is_told_each_time(folder: Path) -> None:
    code = """
from dayfly import lazily
lazily.load("broken")
import broken
for _ in range(2):
    try:
        broken.last
    except OSError:
        continue
    sys.exit("no failure")
"""
    run(code, folder)
