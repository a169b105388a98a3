"""What Slurm and the usage records say of a job and its machine."""

from __future__ import annotations

import json
import pwd
import re
from dataclasses import replace

import pytest

from tests.framework.batch import BatchSystem, JobRequest, Ran, Why
from tests.framework.installation import eventually
from tests.framework.slurm import Cluster

SHELL = "#!/bin/sh\n"
_OURS = re.compile(r"\[dayfly debian:12 sha256:[0-9a-f]{64} tcg (template|cold) \d+\.\d\ds\]")


def comment(cluster: Cluster, job: str) -> str:
    """The job's comment."""
    lines = cluster.admin("scontrol", "show", "job", job).out.decode().splitlines()
    return next((line.strip().removeprefix("Comment=") for line in lines if line.strip().startswith("Comment=")), "")


@pytest.mark.parametrize("own", ["", "the user's own: a=b, twice"])
def test_scontrol_shows_which_machine_a_job_has(batch: BatchSystem, cluster: Cluster, own: str) -> None:
    job = batch.submit(SHELL + (f"#SBATCH --comment={json.dumps(own)}\n" if own else "") + "sleep 2\n")
    eventually(lambda: _OURS.search(comment(cluster, job)), "it is shown while the job runs", 30, lambda: comment(cluster, job))
    assert batch.ended(job).why is Why.DONE
    assert comment(cluster, job).startswith(own)
    found = _OURS.search(comment(cluster, job))
    assert found is not None
    assert found[1] == batch.record(job)["machine"]["start"]


def test_a_job_that_ends_at_once_is_shown_too(batch: BatchSystem, cluster: Cluster) -> None:
    job = batch.submit(SHELL)
    assert batch.ended(job).why is Why.DONE
    assert _OURS.fullmatch(comment(cluster, job)), comment(cluster, job)


def test_each_task_of_an_array_has_its_own(batch: BatchSystem, cluster: Cluster) -> None:
    job = batch.submit(SHELL + "#SBATCH --comment=ours\nexit 0\n", JobRequest(array=2))
    eventually(lambda: not cluster.admin("squeue", "-h").out, "both have ended", 60)
    for task in (1, 2):
        assert re.fullmatch(rf"ours {_OURS.pattern}", comment(cluster, f"{job}_{task}"))


def usage(cluster: Cluster, *words: str) -> Ran:
    """`dayfly usage list` of the user on the submit host, whose records folder the nodes share."""
    settings = cluster.work / "settings.toml"
    settings.write_text(f'[records]\nfolder = "{cluster.folder}/records/{{user}}"\n')
    try:
        return cluster.run(str(cluster.folder / "dayfly"), "usage", "list", *words, extra={"DAYFLY_SETTINGS": str(settings)})
    finally:
        settings.unlink()


def test_records_of_both_nodes_are_found_where_jobs_are_submitted(batch: BatchSystem, cluster: Cluster) -> None:
    jobs = [batch.submit(SHELL + "true\n", JobRequest(node=node)) for node in batch.nodes]
    for job, node in zip(jobs, batch.nodes, strict=True):
        assert batch.ended(job).why is Why.DONE
        (found,) = json.loads(usage(cluster, "--job", job, "--json").out)
        assert found["end"]["status"] == 0
        said = {name: found["batch"][name] for name in ("system", "job", "step", "partition", "node")}
        assert said == {"system": "slurm", "job": job, "step": "batch", "partition": "request", "node": node}


def test_each_user_has_a_folder_and_the_administrator_sees_them_all(batch: BatchSystem, cluster: Cluster) -> None:
    other = replace(cluster, user="games")
    for submitting in (cluster, other):
        done = submitting.run("srun", "--vm-image=debian:12", "true")
        assert done.status == 0, done.err
    folders = {path.name: path.stat() for path in (cluster.folder / "records").iterdir()}
    assert {name: (found.st_uid, found.st_mode & 0o777) for name, found in folders.items()} == {
        user: (pwd.getpwnam(user).pw_uid, 0o700) for user in (cluster.user, "games")
    }
    (record,) = (cluster.folder / "records/games").rglob("*.json")
    forged = record.with_name("0000000001.json")
    forged.write_text(record.read_text().replace(f'"uid": {pwd.getpwnam("games").pw_uid}', '"uid": 1'))
    assert forged.read_text() != record.read_text()
    try:
        everybodys = json.loads(usage(replace(cluster, user="root"), "--all-users", "--json").out)
        assert {found["user"] for found in everybodys} == {cluster.user, "games"}
        assert [found["id"] for found in everybodys if found["user"] == "games"] == [record.stem]
        for words in ((), ("--all-users",)):
            own = json.loads(usage(other, *words, "--json").out)
            assert {found["user"] for found in own} == {"games"}
    finally:
        forged.unlink()


def test_records_of_an_array_and_of_a_step(batch: BatchSystem, cluster: Cluster) -> None:
    array = batch.submit(SHELL + "#SBATCH --account=physics\nexit 3\n", JobRequest(array=2))
    eventually(lambda: not cluster.admin("squeue", "-h").out, "both have ended", 60)
    assert len(json.loads(usage(cluster, "--job", array, "--json").out)) == 2
    (second,) = json.loads(usage(cluster, "--job", f"{array}_2", "--json").out)
    batch_ = second["batch"]
    assert (batch_["array_job"], batch_["array_task"], batch_["account"]) == (array, "2", "physics")
    assert second["end"]["status"] == 3
    job = batch.submit(SHELL + "srun --vm-image=debian:12 true\n", JobRequest(image=None))
    assert batch.ended(job).why is Why.DONE, batch.errors(job)
    (step,) = json.loads(usage(cluster, "--job", job, "--json").out)
    assert (step["batch"]["job"], step["batch"]["step"], step["batch"]["task"]) == (job, "0", "0")
