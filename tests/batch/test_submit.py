"""One description of a job, submitted to each batch system by the command, and asked for later."""

from __future__ import annotations

import json

import pytest

from tests.framework.batch import BatchSystem
from tests.framework.installation import eventually

DESCRIPTION = """\
image = "debian:12"
command = ["sh", "-c", "echo out $WORD; echo bad >&2; uname -n; nproc; exit 5"]
name = "described"
cpus = 2
memory = "1G"
queue = "request"
environment = { WORD = "it's $HOME" }
"""


def submitted(batch: BatchSystem, text: str) -> str:
    (batch.work / "job.toml").write_text(text)
    done = batch.dayfly("submit", "--batch", batch.name, "job.toml")
    assert done.status == 0, done.err
    return done.out.decode().strip()


def test_a_job_from_its_description_to_its_logs(batch: BatchSystem) -> None:
    job = submitted(batch, DESCRIPTION)
    number = job.removeprefix(f"{batch.name}:")
    waited = batch.dayfly("job", "wait", job)
    assert waited.status == 5, waited.err
    out, host, cpus = batch.dayfly("job", "logs", job).out.decode().splitlines()
    assert (out, cpus) == ("out it's $HOME", "2")
    assert host == f"dayfly-{batch.record(number)['id']}"
    assert batch.dayfly("job", "logs", job, "--errors").out == b"bad\n"
    shown = json.loads(batch.dayfly("job", "status", job, "--json").out)
    assert (shown["state"], shown["status"], shown["name"]) == ("ended", 5, "described")
    assert batch.record(number)["batch"]["name"] == "described"


def test_tasks_of_an_array(batch: BatchSystem) -> None:
    """Each has a file of its own, where both streams go."""
    text = 'image = "debian:12"\ncommand = ["sh", "-c", "echo $DAYFLY_TASK; echo bad >&2; exit $((DAYFLY_TASK - 1))"]\n'
    job = submitted(batch, text + 'array = "1-2"\nqueue = "request"\noutput = "all"\nerrors = "all"\n')
    assert batch.dayfly("job", "wait", job).status == 1
    assert batch.dayfly("job", "logs", job).out == b"1\nbad\n2\nbad\n"


def test_a_job_is_cancelled(batch: BatchSystem) -> None:
    job = submitted(batch, 'image = "debian:12"\ncommand = ["sh", "-c", "echo up; sleep 100"]\nqueue = "request"\n')
    eventually(lambda: batch.dayfly("job", "logs", job).out == b"up\n", "the job is up", 40)
    assert json.loads(batch.dayfly("job", "status", job, "--json").out)["state"] == "running"
    assert batch.dayfly("job", "cancel", job).status == 0
    assert batch.dayfly("job", "wait", job).status not in (0, 125)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('image = "el:9"', "the image el:9 is not allowed here"),
        ('image = "debian:99"', "there is no image debian:99"),
        ('image = "debian:12"\nmemory = "900G"', "refused the job"),
    ],
)
def test_what_the_batch_system_refuses(batch: BatchSystem, line: str, told: str) -> None:
    (batch.work / "job.toml").write_text(f'{line}\ncommand = ["true"]\nqueue = "request"\n')
    done = batch.dayfly("submit", "--batch", batch.name, "job.toml")
    assert done.status == 125
    assert told in done.err
    assert "Traceback" not in done.err


def test_of_other_jobs_nothing_is_known(batch: BatchSystem) -> None:
    assert "was submitted from here" in batch.dayfly("job", "status", f"{batch.name}:999999").err
    assert "is not a job's id" in batch.dayfly("job", "status", "../../etc").err
