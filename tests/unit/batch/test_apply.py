"""Writing Slurm's configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from dayfly.batch.adapters.slurm.apply import BLOCK, Wanted, plan, task_prolog
from dayfly.batch.adapters.slurm.setup import EPILOG, PROLOG
from dayfly.batch.setup.site_files import END, write
from dayfly.errors import FileErrors
from dayfly.settings import Settings

CONF = "ClusterName=c\nProctrackType=proctrack/cgroup\nNodeName=n1\n"


@pytest.fixture
def wanted(tmp_path: Path) -> Wanted:
    for name in ("plugin.so", "dayfly"):
        (tmp_path / name).touch()
    (tmp_path / "slurm").mkdir()
    conf = tmp_path / "slurm/slurm.conf"
    conf.write_text(CONF)
    return Wanted(conf, str(tmp_path / "plugin.so"), str(tmp_path / "dayfly"), "")


def apply(wanted: Wanted, settings: Settings | None = None) -> list[Path]:
    planned = plan(wanted, settings or Settings())
    write(planned)
    return sorted(planned)


def errors(wanted: Wanted) -> str:
    before = sorted(wanted.conf.parent.iterdir())
    with pytest.raises(FileErrors) as raised:
        plan(wanted, Settings())
    assert sorted(wanted.conf.parent.iterdir()) == before
    return str(raised.value)


def test_everything_is_written_once_and_then_nothing(wanted: Wanted) -> None:
    folder = wanted.conf.parent
    assert apply(wanted) == sorted(folder / name for name in (EPILOG, "job_submit.lua", "plugstack.conf", "slurm.conf"))
    lines = wanted.conf.read_text().splitlines()
    assert "\n".join(lines).startswith(CONF)
    block = lines[lines.index(BLOCK.begin) + 1 : lines.index(END)]
    assert block == [f"PlugStackConfig={folder}/plugstack.conf", "JobSubmitPlugins=lua", f"Epilog={folder}/{EPILOG}"]
    assert (folder / EPILOG).stat().st_mode & 0o777 == 0o755
    (kept,) = folder.glob("slurm.conf.before-dayfly-*")
    assert kept.read_text() == CONF
    assert apply(wanted) == []


def test_a_prolog_where_the_settings_need_one(wanted: Wanted) -> None:
    folder, settings = wanted.conf.parent, Settings(records_folder=Path("/var/spool/dayfly/{user}"))
    apply(wanted)
    assert apply(wanted, settings) == [folder / PROLOG, folder / "slurm.conf"]
    assert f"\nProlog={folder}/{PROLOG}\n{END}" in wanted.conf.read_text()
    assert (folder / PROLOG).stat().st_mode & 0o777 == 0o755
    wanted.conf.write_text(CONF + "Prolog=/opt/prolog\n")
    with pytest.raises(FileErrors, match=f"have it call {folder}/{PROLOG}"):
        plan(wanted, settings)
    assert folder / "slurm.conf" in apply(wanted)  # no need of it, no trouble


def test_the_sites_lines_stay_and_changed_settings_are_brought_in(wanted: Wanted) -> None:
    plugstack = wanted.conf.parent / "plugstack.conf"
    plugstack.write_text("optional /lib/other.so")
    apply(wanted)
    wanted.conf.write_text(wanted.conf.read_text() + "PartitionName=later\n")
    plugstack.write_text(plugstack.read_text() + "optional /lib/third.so\n")
    assert apply(wanted) == []
    assert apply(wanted, Settings(batch_vm="always", batch_image="debian:12")) == sorted(
        [plugstack, wanted.conf.parent / "job_submit.lua"]
    )
    lines = plugstack.read_text().splitlines()
    assert (lines[0], lines[1], lines[3:]) == ("optional /lib/other.so", BLOCK.begin, [END, "optional /lib/third.so"])
    assert lines[2].endswith("partitions=*")


def test_a_task_prolog_of_the_site(wanted: Wanted) -> None:
    wanted.conf.write_text(CONF + "TaskProlog=/opt/before\n")
    apply(wanted)
    assert "task_prolog=/opt/before\n" in (wanted.conf.parent / "plugstack.conf").read_text()
    assert task_prolog(wanted.conf) == "/opt/before"
    assert task_prolog(wanted.conf.parent / "none") == ""


def test_what_the_site_says_already_is_used(wanted: Wanted, tmp_path: Path) -> None:
    (tmp_path / "slurm/more.conf").write_text("JobSubmitPlugins=throttle,lua\n")
    (tmp_path / "epilog").write_text(f'#!/bin/sh\n"$(dirname "$0")/slurm/{EPILOG}"\n')
    wanted.conf.write_text(f"{CONF}Include more.conf\nPlugStackConfig={tmp_path}/stack\nEpilog={tmp_path}/epilog # ours\n")
    before = wanted.conf.read_text()
    assert tmp_path / "stack" in apply(wanted)
    assert wanted.conf.read_text() == before
    assert str(wanted.plugin) in (tmp_path / "stack").read_text()


def test_all_errors_at_once(wanted: Wanted) -> None:
    folder = wanted.conf.parent
    wanted.conf.write_text(f"Epilog=/opt/epilog\nJobSubmitPlugins=throttle\nInclude gone.conf\n{BLOCK.begin}\n")
    (folder / "plugstack.conf").write_text("required /lib/dayfly_spank.so\n")
    (folder / "job_submit.lua").write_text("-- our rules\n")
    Path(wanted.plugin).unlink()
    said = errors(wanted)
    for what in (
        "has Epilog /opt/epilog",
        "change it to JobSubmitPlugins=throttle,lua",
        "gone.conf: does not exist",
        "slurm.conf: does not have exactly one begin and one end",
        "ProctrackType is not set",
        "plugstack.conf: already has a line for dayfly_spank.so",
        "job_submit.lua: is the site's own",
        "plugin.so: does not exist",
    ):
        assert what in said
