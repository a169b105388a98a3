"""The job shell's helpers are programs of the host: nothing of the job's environment says which."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from dayfly.batch import adapters
from dayfly.batch.adapters.gridengine import calls as gridengine
from dayfly.batch.adapters.htcondor import calls as htcondor
from dayfly.batch.adapters.pbs import calls as pbs
from dayfly.batch.adapters.slurm import calls as slurm
from dayfly.batch.jobshell import prolog
from dayfly.batch.jobshell.allocation import Allocation
from dayfly.batch.jobshell.job import BatchJob
from dayfly.batch.setup import hooks

USERS = "/home/user/bin"
CHOOSING: tuple[bytes, ...] = (
    *(b"PATH", b"SLURM_CONF", b"PBS_CONF_FILE", b"PBS_EXEC", b"_CONDOR_LOCAL_CONFIG_FILE", b"CONDOR_CONFIG"),
    *(b"LD_PRELOAD", b"LD_LIBRARY_PATH", b"BASH_ENV", b"BASH_FUNC_env%%", b"ENV", b"PYTHONPATH", b"PERL5LIB"),
)
"""Variables by which a program finds code, or other programs."""
SYSTEMS: Mapping[str, Callable[[BatchJob, Mapping[bytes, bytes]], object]] = {
    "slurm": slurm.Calls,
    "gridengine": gridengine.Calls,
    "pbs": pbs.Calls,
    "htcondor": htcondor.Calls,
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_no_variable_of_the_job_says_which_program_is_called(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/of/the/hook")
    monkeypatch.delenv("SLURM_CONF", raising=False)
    made = SYSTEMS[system](BatchJob(system, "q", {"job": "1"}, Allocation(1, 0)), dict.fromkeys(CHOOSING, USERS.encode()))
    environment: Mapping[str, str] = vars(made)["_environment"]
    assert environment["PATH"].startswith("/of/the/hook")
    assert not [name for name, value in environment.items() if USERS in value]


def test_slurms_configuration_is_the_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CONF", "/of/slurmd")
    made = slurm.Calls(BatchJob("slurm", "q", {"job": "1"}, Allocation(1, 0)), {b"SLURM_CONF": USERS.encode()})
    assert vars(made)["_environment"]["SLURM_CONF"] == "/of/slurmd"


def test_where_all_jobs_have_machines_a_prolog_has_no_variable_that_chooses_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "prolog"
    program.write_text('#!/bin/sh\nenv | while read -r line; do echo "print $line"; done\necho export SEEN=yes\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    printed: list[bytes] = []
    monkeypatch.setattr(prolog, "_print", printed.append)
    environment = {**dict.fromkeys(CHOOSING, USERS.encode()), b"SLURM_JOB_ID": b"7", b"MINE": b"mine", b"HOME": b"/home/user"}
    changed = prolog.run(str(program), environment, guarded=True)
    assert changed == {**environment, b"SEEN": b"yes"}  # the job has all of its own
    assert USERS.encode() not in printed[0]
    assert b"SLURM_JOB_ID=7\n" in printed[0]
    assert b"MINE" not in printed[0]


def test_what_hands_over_to_the_job_shell_starts_it_with_nothing_of_the_users() -> None:
    """A privileged bash runs no BASH_ENV; Python imports nothing from below a home directory or the working directory."""
    folder = Path(adapters.__file__).parent
    programs = [path for path in folder.rglob("*") if path.suffix in (".sh", ".PY") and "HAND_OVER" in path.read_text()]
    assert {path.parent.name for path in programs} == {"gridengine", "htcondor", "torque"}
    for path in programs:
        assert path.read_text().startswith("#!/bin/bash -p\n"), path
    assert '"-p", "-c", START' in (folder / "pbs/hook.PY").read_text()
    assert "env -i " in hooks.HAND_OVER
    assert {"PYTHONNOUSERSITE", "PYTHONSAFEPATH"} <= set(hooks.ENVIRONMENT)
    assert all(folder.startswith("/") for folder in hooks.PATH.split(os.pathsep))  # an empty one is the working directory
