"""Whose templates: the site's are for all and in nobody else's hands, a user's own for nobody else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.framework.site import IMAGE, Site
from tests.framework.site_files import site_settings
from tests.framework.templates import copy_sparse, folder_of, lend_template, refingerprint_only

NOBODY, SOMEBODY = 65534, 65533


# Whose


def system_settings(site: Site, folder: Path) -> list[str]:
    """A command that sees an /etc in which the site's settings name this folder of the site's templates."""
    return site_settings(site, f'[templates]\nsystem = "{folder}"\n')


@pytest.fixture(scope="module")
def made_by_root(tmp_path_factory: pytest.TempPathFactory, library: Path) -> Path:
    """A folder of the site's templates with one for these tests' jobs."""
    if os.geteuid() != 0:
        pytest.skip("the site's templates are root's")
    site = Site(tmp_path_factory.mktemp("made") / "site", library, library / "templates")
    folder = site.work / "site-templates"
    folder.mkdir(mode=0o755)
    built = site.dayfly("template", "build", IMAGE, "--system", before=system_settings(site, folder))
    assert built.status == 0, built.err
    return folder


@pytest.fixture
def site_templates(site: Site, made_by_root: Path) -> Path:
    """The folder of the site's templates, root's, with one for this site's jobs."""
    folder = site.work / "site-templates"
    shutil.copytree(made_by_root, folder, copy_function=copy_sparse)
    refingerprint_only(folder_of(folder))
    return folder


def test_the_sites_is_for_all_and_in_nobody_elses_hands(site: Site, site_templates: Path) -> None:
    folder = folder_of(site_templates)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o444}
    site.give_to(NOBODY)
    before = system_settings(site, site_templates)
    for path in (site_templates, *site_templates.rglob("*")):
        os.chown(path, 0, 0)
    refingerprint_only(folder)
    shown = json.loads(site.dayfly("template", "show", f"system/{folder.name}", "--json", before=before).out)
    refused = site.dayfly("template", "build", IMAGE, "--system", "--memory", "300M", before=before)
    assert refused.status == 125
    assert "no template can be stored" in refused.err
    assert site.dayfly("template", "remove", f"system/{folder.name}", before=before).status == 125
    finished = site.dayfly(
        "run", IMAGE, "--", "sh", "-c", "id -u; dd if=/dev/urandom of=/dev/shm/x bs=1M count=100", before=before
    )
    assert (finished.status, finished.out) == (0, b"65534\n"), finished.err
    assert site.record()["machine"]["start"] == "template", site.record()["machine"]["cold_reason"]
    if list(site.templates.rglob("template.json")):  # with QEMU before 8.2: a copy of the site's
        assert json.loads((folder_of(site.templates) / "template.json").read_text())["made"] == shown["template"]["made"]
    for part in ("memory", "state", "scratch", "template.json"):
        attempt = site.dayfly(
            "ps", before=["setpriv", "--reuid", str(NOBODY), "--clear-groups", "sh", "-c", f"echo x >> {folder / part}"]
        )
        assert attempt.status != 0
    again = json.loads(site.dayfly("template", "show", f"system/{folder.name}", "--json", before=before).out)
    assert again["template"]["files"] == shown["template"]["files"]
    assert again["state"] == "ready"


def test_jobs_of_a_user_at_once_all_have_the_sites(site: Site, site_templates: Path) -> None:
    """With QEMU before 8.2 a copy of it; newer ones need none."""
    site.give_to(NOBODY)
    before = system_settings(site, site_templates)
    for path in (site_templates, *site_templates.rglob("*")):
        os.chown(path, 0, 0)
    refingerprint_only(folder_of(site_templates))
    jobs = [site.start("run", IMAGE, "--", "echo", "fine", before=before) for _ in range(3)]
    for job in jobs:
        assert job.communicate(timeout=60) == (b"fine\n", b"")
    assert {record["machine"]["start"] for record in site.records()} == {"template"}
    made = json.loads((folder_of(site_templates) / "template.json").read_text())["made"]
    copies = list(site.templates.rglob("template.json"))
    assert [json.loads(path.read_text())["made"] for path in copies] in ([], [made])


def test_the_sites_that_cannot_be_restored_is_not_tried_by_every_job(
    site: Site, site_templates: Path, own_templates: Path
) -> None:
    before = system_settings(site, site_templates)
    folder = folder_of(site_templates)
    (folder / "state").chmod(0o644)
    with (folder / "state").open("r+b") as file:
        file.write(b"no migration stream")
    (folder / "state").chmod(0o444)
    refingerprint_only(folder)
    for _ in range(2):
        finished = site.dayfly("run", IMAGE, "--", "echo", "fine", before=before)
        assert (finished.status, finished.out, finished.err) == (0, b"fine\n", "")
        assert "QEMU ended while it restored" in site.record()["machine"]["cold_reason"]
    assert [path.name for path in own_templates.iterdir()] == [f"{folder.name}.failed"]
    noted = (own_templates / f"{folder.name}.failed").stat().st_mtime_ns
    assert site.dayfly("run", IMAGE, "--", "true", before=before).status == 0
    assert (own_templates / f"{folder.name}.failed").stat().st_mtime_ns == noted  # so nobody tried


@pytest.mark.parametrize(
    "what", ["a file of somebody else's", "a folder of somebody else's", "a file for all to write", "a folder for all to write"]
)
def test_the_sites_is_not_used_when_somebody_else_could_have_made_it(site: Site, site_templates: Path, what: str) -> None:
    folder = folder_of(site_templates)
    path = folder / "memory" if "file" in what else folder
    if "somebody" in what:
        os.chown(path, SOMEBODY, SOMEBODY)
    else:
        path.chmod(0o666 if "file" in what else 0o777)
    refingerprint_only(folder)
    finished = site.dayfly("run", IMAGE, "--", "true", before=system_settings(site, site_templates))
    assert finished.status == 0, finished.err
    assert Path(site.templates / site.record()["machine"]["template"]).is_dir()  # the user's own was used


def test_another_user_can_neither_read_nor_lend_one(site: Site, own_templates: Path) -> None:
    """A user's own is for him alone: others cannot read it, and one that somebody else owns is not used."""
    if os.geteuid() != 0:
        pytest.skip("two users need root")
    folder = lend_template(site, own_templates)
    for path in (own_templates, folder, folder / "memory"):
        attempt = subprocess.run(
            ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", "cat", str(path)],
            capture_output=True,
            check=False,
        )
        assert b"Permission denied" in attempt.stderr
    site.give_to(NOBODY)
    for path in (own_templates, *own_templates.rglob("*")):
        os.chown(path, SOMEBODY, SOMEBODY)
        path.chmod(0o755 if path.is_dir() else 0o644)
    refingerprint_only(folder)
    for path in folder.iterdir():
        path.chmod(0o644)
    finished = site.run("id", "-u")
    assert (finished.status, finished.out) == (0, b"65534\n"), finished.err
    assert site.record()["machine"]["start"] == "cold"  # nor can he make one there
