"""The scripts that described jobs become, in real shells: the command gets its words and variables as they were written.

HTCondor's own library reads what it is given; the others' scripts are run as they are.
"""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.framework.condor import processes
from tests.unit.batch.described import WHOLE
from tests.unit.batch.test_submit_words import ENVIRONMENT, TEXT

from dayfly.batch.submission.description import JobSpec
from dayfly.batch.submission.rendering import IN_A_MACHINE
from dayfly.batch.systems import SYSTEMS

TASKS = {"slurm": "SLURM_ARRAY_TASK_ID", "gridengine": "SGE_TASK_ID", "pbs": "PBS_ARRAY_INDEX", "torque": "PBS_ARRAYID"}
SHOW = ("/bin/sh", "-c", 'printf "%s\\0" "$DAYFLY_TASK" "$@"; exec env -0', "sh")


def starting(system: str, job: JobSpec, shell: str) -> tuple[list[str], bytes, dict[str, str]]:
    """How the second task of the job is started: its argv, what is on its stdin, the variables that the batch system sets."""
    text = SYSTEMS[system].render(job)
    if system == "htcondor":
        option, line, *rest = processes(text, 42)[1].argv[1:]
        return [shell, option, line.replace(f"{IN_A_MACHINE}; ", ""), *rest], b"", {}
    return [shell], text.replace(f"{IN_A_MACHINE}\n", "").encode(), {TASKS[system]: str(job.first + 1)}


@pytest.mark.parametrize("shell", ["/bin/dash", "/bin/bash"])
@pytest.mark.parametrize("system", sorted(SYSTEMS))
@given(st.lists(TEXT, max_size=4), ENVIRONMENT)
def test_a_job_gets_its_words_and_variables(system: str, shell: str, words: list[str], environment: dict[str, str]) -> None:
    environment = {f"X_{name}": value for name, value in environment.items()}  # no shell has a meaning for these
    job = replace(WHOLE, directory="/", command=(*SHOW, *words), environment=environment)
    argv, stdin, variables = starting(system, job, shell)
    done = subprocess.run(argv, input=stdin, capture_output=True, env={"PATH": "/usr/bin:/bin", **variables}, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    task, *shown = done.stdout.decode().split("\0")[:-1]
    assert task == "3"
    assert shown[: len(words)] == words
    seen = dict(line.partition("=")[::2] for line in shown[len(words) :])
    assert {name: value for name, value in seen.items() if name.startswith("X_")} == environment
    assert set(seen) - set(environment) - set(variables) <= {"PATH", "PWD", "OLDPWD", "SHLVL", "_", "DAYFLY_TASK"}


def test_on_a_host_itself_nothing_is_run() -> None:
    """The batch systems that would not notice that a host has no hook of ours."""
    job = replace(WHOLE, command=("echo", "ran"))
    for argv, script in (
        (["/bin/sh"], SYSTEMS["torque"].render(job)),
        (["/bin/sh", *processes(SYSTEMS["htcondor"].render(job), 42)[0].argv[1:]], ""),
    ):
        done = subprocess.run(argv, input=script, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (125, "", "dayfly: jobs get no machines on this host\n")


def test_what_htcondor_reads_of_a_description() -> None:
    first, second, third = processes(SYSTEMS["htcondor"].render(replace(WHOLE, output="", errors="")), 42)
    said = second.said
    assert [job.said["output"] for job in (first, second, third)] == ["sim.42.2.out", "sim.42.3.out", "sim.42.4.out"]
    assert said["error"] == "sim.42.3.err"
    assert [said[f"MY.VM{name}"] for name in ("Image", "Boot", "Network", "Share")] == [
        '"debian:12"',
        '"system"',
        '"nat"',
        '"/data:ro"',
    ]
    assert (said["request_cpus"], said["request_memory"], said["initialdir"]) == ("2", "2048", "/home/ada/runs")
