"""What batch systems answer when a job is submitted and asked for, and what is made of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.batch.adapters.gridengine import submit as gridengine
from dayfly.batch.adapters.htcondor import submit as htcondor
from dayfly.batch.adapters.pbs import submit as pbs
from dayfly.batch.adapters.slurm import submit as slurm
from dayfly.batch.adapters.torque import submit as torque
from dayfly.batch.submission import store
from dayfly.batch.submission.states import NoAnswer, State, first_failure
from dayfly.batch.submission.system import Adapter, check_command, present
from dayfly.batch.systems import SYSTEMS
from dayfly.errors import NotFound, Refused
from tests.unit.batch.described import WHOLE

EVERYWHERE = pytest.mark.parametrize("system", sorted(SYSTEMS))
HOSTILE = [
    "",
    "no",
    "-1",
    "4 2",
    "42.head\n43.head\n",
    "../../etc",
    "42/..",
    "4" * 100,
    "42[3].head/x",
    "42[].",
    "7.0 - 8.0",
    "\0",
]


def test_numbers() -> None:
    assert (slurm.number("42\n"), slurm.number("42;cluster\n")) == ("42", "42")
    assert (gridengine.number("7\n"), gridengine.number("7.1-3:1\n")) == ("7", "7")
    assert (htcondor.number("7.0 - 7.0\n"), htcondor.number("12.0 - 12.99\n")) == ("7", "12")
    for words in (pbs, torque):
        assert words.number("42.head.example.org\n") == "42.head.example.org"
        assert words.number("42[].head\n") == "42[].head"


@EVERYWHERE
@pytest.mark.parametrize("answer", HOSTILE)
def test_answers_that_are_no_numbers(system: str, answer: str) -> None:
    with pytest.raises(Refused, match="did not print a job's"):
        SYSTEMS[system].adapter.number(answer)


@EVERYWHERE
@given(st.text())
def test_a_number_is_a_name_in_its_own_folder(system: str, answer: str) -> None:
    try:
        number = SYSTEMS[system].adapter.number(answer)
    except Refused:
        return
    with pytest.raises(NotFound):
        store.recall(f"{system}:{number}")


@pytest.mark.parametrize(
    "identity",
    ["../x", "pbs:", "pbs:..", "pbs:../x", "pbs:a/b", "pbs:.x", "pbs:[", "PBS:1", "pbs:1\n", "pbs:" + "1" * 200, "a/b:1", ""],
)
def test_what_is_no_id(identity: str) -> None:
    with pytest.raises(Refused, match="is not a job's id"):
        store.recall(identity)


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ("7 PENDING Priority\n", State.WAITING),
        ("7 PENDING JobHeldUser\n17 RUNNING None\n", State.HELD),
        ("7 COMPLETED None\n7 RUNNING None\n7 PENDING Resources\n", State.RUNNING),
        ("7 SUSPENDED None\n", State.SUSPENDED),
        ("7 COMPLETED None\n7 FAILED NonZeroExitCode\n70 RUNNING None\n", State.ENDED),
        ("", State.ENDED),
    ],
)
def test_what_squeue_says(answer: str, state: State) -> None:
    assert slurm.state(answer, 0, "7") is state


def test_what_squeue_does_not_say() -> None:
    with pytest.raises(NoAnswer, match="squeue failed, so the job's state is not known"):
        slurm.state("7 RUNNING None", 1, "7")


_QSTAT = """\
job-ID  prior   name       user         state submit/start at     queue                          slots ja-task-ID
-----------------------------------------------------------------------------------------------------------------
      7 0.55500 job        ada          {}    11/23/2026 16:11:48 all.q@n1                           1
     17 0.55500 job        ada          qw    11/23/2026 16:11:48                                    1
"""


@pytest.mark.parametrize(
    ("letters", "state"),
    [
        ("qw", State.WAITING),
        ("hqw", State.HELD),
        ("r", State.RUNNING),
        ("Rr", State.RUNNING),
        ("t", State.RUNNING),
        ("dr", State.RUNNING),
        ("s", State.SUSPENDED),
        ("T", State.SUSPENDED),
        ("Eqw", State.FAULTY),
    ],
)
def test_what_qstat_of_grid_engine_says(letters: str, state: State) -> None:
    assert gridengine.state(_QSTAT.format(letters), 0, "7") is state


def test_what_qstat_of_grid_engine_does_not_say() -> None:
    assert gridengine.state(_QSTAT.format("r"), 0, "8") is State.ENDED
    assert gridengine.state("", 0, "8") is State.ENDED
    with pytest.raises(Refused):
        gridengine.state("", 1, "8")


def full(job: str, state: str, exit_status: str = "", variables: str = "PBS_O_HOME=/home/ada,PBS_O_LANG=C") -> str:
    """A job as `qstat -f` shows it (qstat(1B)); long values go on in lines that begin with a tab."""
    ended = f"    Exit_status = {exit_status}\n" if exit_status else ""
    return (
        f"Job Id: {job}\n    Job_Name = sim\n    Job_Owner = ada@head\n    job_state = {state}\n    queue = short\n{ended}"
        f"    Variable_List = {variables},\n\tPBS_O_WORKDIR=/home/ada/runs\n\n"
    )


@pytest.mark.parametrize("words", [pbs, torque])
@pytest.mark.parametrize(
    ("letter", "state"),
    [
        ("Q", State.WAITING),
        ("W", State.WAITING),
        ("H", State.HELD),
        ("R", State.RUNNING),
        ("E", State.RUNNING),
        ("B", State.RUNNING),
        ("S", State.SUSPENDED),
        ("U", State.SUSPENDED),
        ("F", State.ENDED),
        ("C", State.ENDED),
        ("?", State.RUNNING),
    ],
)
def test_what_qstat_of_pbs_and_torque_says(words: Adapter, letter: str, state: State) -> None:
    assert words.state(full("42.head", letter) + full("43.head", "Q"), 0, "42.head") is state


@pytest.mark.parametrize("words", [pbs, torque])
def test_what_qstat_of_pbs_and_torque_does_not_say(words: Adapter) -> None:
    for status in (0, 153, 35):  # 153: it knows no such job; 35: it is history
        assert words.state("", status, "42.head") is State.ENDED
    assert words.state(full("43.head", "R"), 153, "42.head") is State.ENDED
    for status in (1, 2, 111):
        with pytest.raises(Refused, match="state is not known"):
            words.state("", status, "42.head")


def test_of_an_array_the_tasks_count() -> None:
    tasks = full("42[1].head", "C", "0") + full("42[2].head", "Q") + full("42[10].head", "H")
    assert torque.state(full("42[].head", "Q") + tasks, 0, "42[].head") is State.WAITING
    assert torque.state(full("42[].head", "Q") + full("42[1].head", "C", "0"), 0, "42[].head") is State.ENDED
    assert pbs.state(full("42[].head", "B"), 0, "42[].head") is State.RUNNING


def test_a_jobs_variables_change_nothing() -> None:
    lies = "A=1\n    job_state = F\n    Exit_status = 9\nJob Id: 43.head\n    job_state = F"
    assert pbs.state(full("42.head", "R", variables=lies), 0, "42.head") is State.RUNNING
    assert pbs.status(full("42.head", "F", "3", lies), "42.head", 1) == 3


@pytest.mark.parametrize("words", [pbs, torque])
@pytest.mark.parametrize(
    ("said", "status"),
    [("0", 0), ("5", 5), ("143", 143), ("265", 137), ("271", 143), ("-1", None), ("-3", None), ("", None), ("x", None)],
)
def test_how_a_job_of_pbs_or_torque_ended(words: Adapter, said: str, status: int | None) -> None:
    assert words.status(full("42.head", "F", said), "42.head", 1) == status
    assert words.status(full("43.head", "F", "1"), "42.head", 1) is None


@pytest.mark.parametrize(
    ("words", "said", "status"),
    [
        *((pbs, said, 137) for said in ("-24", "-25", "-26", "-27", "-28", "-31")),
        *((pbs, said, None) for said in ("-10", "-11", "-23", "-30", "-32")),
        (pbs, "-29", 124),
        (torque, "-10", 137),
        (torque, "-11", 124),
        (torque, "-12", 137),
        (torque, "-29", None),
    ],
)
def test_how_a_job_ended_that_went_over_a_limit(words: Adapter, said: str, status: int | None) -> None:
    assert words.status(full("42.head", "F", said), "42.head", 1) == status


def test_how_the_tasks_of_an_array_ended() -> None:
    own = full("42[].head", "F", "2")
    tasks = full("42[10].head", "F", "7") + full("42[2].head", "F", "5") + full("42[1].head", "F", "0")
    assert pbs.status(own + tasks, "42[].head", 3) == 5, "the first by its number"
    assert pbs.status(own + tasks, "42[].head", 4) is None
    assert pbs.status(own, "42[].head", 1) is None, "what PBS says of the array itself is no task's status"
    assert pbs.ask_status("42[].head", 3) == ["qstat", "-x", "-f", "-t", "42[].head"]
    assert torque.ask_status("42.head", 1) == torque.ask("42.head") == ["qstat", "-f", "42.head"]


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ("0 1 undefined\n", State.WAITING),
        ("0 1 undefined\n1 2 undefined\n", State.RUNNING),
        ("0 5 1\n", State.HELD),
        ("0 5 15\n", State.HELD),
        ("0 5 12\n", State.FAULTY),
        ("0 6 undefined\n", State.RUNNING),
        ("0 7 undefined\n", State.SUSPENDED),
        ("0 4 undefined\n1 3 undefined\n", State.ENDED),
        ("", State.ENDED),
        ("-- Schedd: head : <10.0.0.1:9618?...\n", State.ENDED),
    ],
)
def test_what_condor_q_says(answer: str, state: State) -> None:
    assert htcondor.state(answer, 0, "7") is state
    with pytest.raises(Refused, match="state is not known"):
        htcondor.state(answer, 1, "7")


OVER_TIME = "The job attribute PeriodicRemove expression '{}' evaluated to TRUE".format(
    htcondor.render(WHOLE).partition("periodic_remove = ")[2].partition("\n")[0]
)


@pytest.mark.parametrize(
    ("answer", "tasks", "status"),
    [
        ("0 false undefined 5 undefined\n", 1, 5),
        ("0 true 9 undefined undefined\n", 1, 137),
        ("0 undefined undefined undefined via condor_rm (by user ann)\n", 1, None),
        (f"0 undefined undefined undefined {OVER_TIME}\n", 1, 124),
        ("10 false undefined 7 undefined\n2 false undefined 5 undefined\n0 false undefined 0 undefined\n", 3, 5),
        ("0 false undefined 0 undefined\n", 2, None),
        ("x y\n0 false undefined " + "9" * 50 + " undefined\n", 1, None),
        ("", 1, None),
    ],
)
def test_what_condor_history_says(answer: str, tasks: int, status: int | None) -> None:
    assert htcondor.status(answer, "7", tasks) == status


@EVERYWHERE
@given(st.text(), st.integers(0, 255))
def test_no_answer_breaks_anything(system: str, answer: str, status: int) -> None:
    words = SYSTEMS[system].adapter
    assert words.status(answer, "42", 3) is None
    try:
        assert isinstance(words.state(answer, status, "42"), State)
    except Refused:
        assert status


@pytest.mark.parametrize(
    ("system", "batch", "expected"),
    [
        ("slurm", {"job": "45", "array_job": "42", "array_task": "3"}, ("42", 3)),
        ("slurm", {"job": "42"}, ("42", 0)),
        ("gridengine", {"job": "7", "array_job": "7", "array_task": "3"}, ("7", 3)),
        ("pbs", {"job": "42[3].head", "array_job": "42[].head", "array_task": "3"}, ("42[].head", 3)),
        ("pbs", {"job": "42.head"}, ("42.head", 0)),
        ("torque", {"job": "42[12].head", "array_task": "12"}, ("42[].head", 12)),
        ("torque", {"job": "42.head", "array_task": "x" * 50}, ("42.head", 0)),
        ("htcondor", {"job": "7.3"}, ("7", 3)),
        ("htcondor", {}, ("", 0)),
    ],
)
def test_whose_machine_a_record_is_of(system: str, batch: dict[str, str], expected: tuple[str, int]) -> None:
    assert SYSTEMS[system].adapter.task(batch) == expected


def test_the_first_failure_is_the_first_tasks() -> None:
    assert first_failure({10: 7, 9: 3, 1: 0}, 3) == 3
    assert first_failure({1: 0, 2: 0}, 2) == 0
    assert first_failure({1: 0, 2: None}, 2) is None
    assert first_failure({1: 5}, 2) is None


COMMANDS = {
    "slurm": ["sbatch", "squeue"],
    "gridengine": ["qsub", "qstat", "qconf"],
    "pbs": ["qsub", "qstat", "qmgr", "pbsnodes", "pbs_rstat", "pbs_rsub"],
    "torque": ["qsub", "qstat", "qmgr", "pbsnodes", "qchkpt", "pbs_track"],
    "htcondor": ["condor_submit", "condor_q"],
}


@EVERYWHERE
def test_which_batch_system_a_host_has(system: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("bin")
    assert present({"PATH": str(folder)}, SYSTEMS) == []
    for name in COMMANDS[system]:
        (folder / name).touch(0o755)
    assert present({"PATH": str(folder)}, SYSTEMS) == [system]
    for name in COMMANDS["slurm"]:  # Slurm has commands for those who know PBS, with a qsub among them
        (folder / name).touch(0o755)
    assert sorted(present({"PATH": str(folder)}, SYSTEMS)) == sorted({"slurm", system})


@pytest.mark.parametrize(
    ("here", "named"), [("gridengine", "pbs"), ("gridengine", "torque"), ("torque", "pbs"), ("pbs", "gridengine")]
)
def test_a_qsub_of_another_batch_system_gets_no_job(here: str, named: str, tmp_path: Path) -> None:
    for name in COMMANDS[here]:
        (tmp_path / name).touch(0o755)
    variables = {"PATH": str(tmp_path)}
    check_command(SYSTEMS[here], variables, SYSTEMS)
    check_command(SYSTEMS["htcondor"], variables, SYSTEMS)  # whose command is missing, which is told when it is called
    with pytest.raises(Refused, match=f"qsub on this host belongs to {here}, not to {named}"):
        check_command(SYSTEMS[named], variables, SYSTEMS)
    (tmp_path / "qconf").unlink(missing_ok=True)
    for mark in ("pbs_rstat", "qchkpt"):
        (tmp_path / mark).unlink(missing_ok=True)
    check_command(SYSTEMS[named], variables, SYSTEMS)  # state is not known whose it is, but for the user
