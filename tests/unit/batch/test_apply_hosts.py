"""Writing the files of hosts under HTCondor and Torque."""

from __future__ import annotations

from pathlib import Path

import pytest

from dayfly.batch.adapters.htcondor import apply as htcondor
from dayfly.batch.adapters.torque import apply as torque
from dayfly.batch.setup.site_files import END, Places, write
from dayfly.errors import FileErrors
from dayfly.settings import Settings
from dayfly.values import replace

USERS = Settings(records_folder=Path("/var/spool/dayfly/{user}"))


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "dayfly").touch()
    for folder in ("system/config.d", "system/mom_priv"):
        (tmp_path / folder).mkdir(parents=True)
    return Places(tmp_path / "system", tmp_path / "hooks", str(tmp_path / "dayfly"), "/etc/s.toml")


def condor(places: Places, settings: Settings | None = None) -> list[str]:
    planned = htcondor.plan(places, settings or Settings())
    write(planned)
    return sorted(path.name for path in planned)


def of_torque(places: Places, settings: Settings | None = None) -> list[str]:
    planned = torque.plan(places, settings or Settings())
    write(planned)
    return sorted(path.name for path in planned)


def test_htcondors_files_are_written_once_and_then_nothing(places: Places) -> None:
    (places.system / "config.d/00-site.conf").write_text("DAEMON_LIST = MASTER, STARTD\n")
    assert condor(places) == ["50-dayfly-submit.conf", "50-dayfly.conf", "wrapper"]
    assert f"\nUSER_JOB_WRAPPER = {places.hooks}/wrapper\n" in (places.system / "config.d/50-dayfly.conf").read_text()
    assert (places.hooks / "wrapper").stat().st_mode & 0o777 == 0o755
    assert condor(places) == []
    assert condor(places, Settings(batch_vm="always", batch_image="debian:12")) == ["wrapper"]
    assert len([*places.hooks.glob("wrapper.before-dayfly-*")]) == 1


def test_what_was_there_is_kept_and_not_read_by_htcondor(places: Places) -> None:
    condor(places)
    elsewhere = replace(places, hooks=places.hooks.parent / "others")
    assert condor(elsewhere) == ["50-dayfly.conf", "wrapper"]
    (kept,) = (places.system / "config.d").glob("*before-dayfly*")
    assert kept.name.endswith("~")
    assert condor(elsewhere) == []


def test_a_wrapper_of_the_sites_own_has_to_call_ours(places: Places, tmp_path: Path) -> None:
    site = tmp_path / "site-wrapper"
    site.write_text('#!/bin/sh\n# a wrapper\nexec "$@"\n')
    named = places.system / "config.d/10-site.conf"
    named.write_text(f"user_job_wrapper={site}\n")
    with pytest.raises(FileErrors, match=f"10-site.conf: has USER_JOB_WRAPPER {site} .have it call {places.hooks}/wrapper"):
        htcondor.plan(places, Settings())
    site.write_text(f'#!/bin/sh\nexec {places.hooks}/wrapper "$@"\n')
    condor(places)
    assert "USER_JOB_WRAPPER" not in (places.system / "config.d/50-dayfly.conf").read_text(), "the site's is the one that counts"
    named.unlink()
    assert condor(places) == ["50-dayfly.conf"]


def test_torques_files_are_written_once_and_then_nothing(places: Places) -> None:
    config, filtered = places.system / "mom_priv/config", places.system / "torque.cfg"
    config.write_text("$logevent 255")
    assert of_torque(places) == ["config", "qsub_filter", "starter", "torque.cfg"]
    assert config.read_text().splitlines() == ["$logevent 255", torque.BLOCK.begin, f"$job_starter {places.hooks}/starter", END]
    assert filtered.read_text().splitlines() == [torque.BLOCK.begin, f"SUBMITFILTER {places.hooks}/qsub_filter", END]
    assert of_torque(places) == []
    assert of_torque(places, USERS) == ["prologue"]
    assert (places.system / "mom_priv/prologue").stat().st_mode & 0o777 == 0o500


def test_a_host_that_runs_no_jobs_of_torque_gets_the_filter_alone(places: Places) -> None:
    (places.system / "mom_priv").rmdir()
    assert of_torque(places, USERS) == ["qsub_filter", "torque.cfg"]


def test_a_starter_of_the_sites_own_has_to_call_ours(places: Places, tmp_path: Path) -> None:
    config, site = places.system / "mom_priv/config", tmp_path / "own"
    of_torque(places)
    config.write_text(config.read_text() + f"$job_starter {site}\n")
    with pytest.raises(FileErrors, match=r"config: has \$job_starter"):
        torque.plan(places, Settings())
    site.write_text(f'exec {places.hooks}/starter "$@"\n')
    assert of_torque(places) == ["config"]
    assert config.read_text() == f"$job_starter {site}\n"


def test_all_errors_at_once(places: Places, tmp_path: Path) -> None:
    elsewhere = Places(tmp_path / "none", places.hooks, "/none/dayfly", "")
    places.hooks.mkdir()
    for name in ("wrapper", "qsub_filter"):
        (places.hooks / name).write_text("#!/bin/sh\n# the site's\n")
    for planned, option, name in ((htcondor.plan, "--conf", "wrapper"), (torque.plan, "--home", "qsub_filter")):
        with pytest.raises(FileErrors) as raised:
            planned(elsewhere, Settings())
        for said in (f"with {option}", "/none/dayfly: does not exist", f"{name}: is the site's own"):
            assert said in str(raised.value)
    assert sorted(path.name for path in places.hooks.iterdir()) == ["qsub_filter", "wrapper"]
