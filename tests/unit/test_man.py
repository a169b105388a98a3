import tomllib

import pytest
from tools.man import FOLDER, pages

PAGES = pages()


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_current(name: str) -> None:
    assert (FOLDER / name).read_text() == PAGES[name], "`make man` writes it anew"


def test_no_page_is_left_over() -> None:
    assert {path.name for path in FOLDER.glob("*.1")} == set(PAGES)
    assert {path.stem for path in FOLDER.glob("parts/*")} == {name.removesuffix(".1") for name in PAGES}


def test_the_wheel_has_every_page() -> None:
    project = tomllib.loads((FOLDER.parent.parent / "pyproject.toml").read_text())
    shared = project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    assert shared == {f"docs/man/{name}": f"share/man/man1/{name}" for name in PAGES}


def test_the_jobs_command_comes_after_dashes() -> None:
    assert r"\fBdayfly run\fR \fIIMAGE\fR [options] [\fB\-\-\fR \fICOMMAND\fR [\fIARGUMENT\fR \&...]]" in PAGES["dayfly-run.1"]
