import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.app.records import Filter
from dayfly.errors import NotFound, Refused
from dayfly.job.records import Records, by_id
from dayfly.job.usage import SCHEMA_FILE, End, ImageUsed, MachineUsed, UsageRecord, Used, parse, shortened
from dayfly.units import timestamp

RECORD = UsageRecord(
    id="0123456789",
    state="ended",
    begun="2026-11-23T05:00:00.000Z",
    host="node1",
    uid=1000,
    user="ada",
    command=("true",),
    directory="/home/ada",
    image=ImageUsed("debian:12", "sha256:" + "a" * 64, "system"),
    machine=MachineUsed(1, 512 << 20, 8 << 30, "tcg", "agent", "cold", "none", "7.2.22"),
    phases={"spawned": 0.05, "gone": 2.0},
    used=Used(0.1, 0.2, 2.1, 1 << 20, 0, 5),
    end=End(0, "exit"),
)


def check(record: UsageRecord) -> None:
    jsonschema.validate(json.loads(record.render()), json.loads(SCHEMA_FILE.read_text()))


def test_records_follow_their_schema() -> None:
    check(RECORD)
    check(replace(RECORD, state="running", end=None, phases={}, used=Used()))


def test_the_schema_notices() -> None:
    for wrong in (replace(RECORD, state="odd"), replace(RECORD, end=End(256, "exit")), replace(RECORD, end=End(0, "odd"))):
        with pytest.raises(jsonschema.ValidationError):
            check(wrong)


def test_a_record_is_read_as_it_was_written() -> None:
    assert parse(RECORD.render()) == RECORD


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"null", b'{"end": 3}', b"\xff", b'{"end": null, "image": {"x": 1}}'])
def test_what_is_no_record(text: bytes) -> None:
    with pytest.raises(Refused):
        parse(text)


@given(st.lists(st.text(max_size=3000), max_size=10))
def test_commands_are_kept_short_and_printable_as_json(command: list[str]) -> None:
    kept = shortened(tuple(command))
    assert sum(map(len, kept)) <= 4096 + 1
    json.dumps(kept).encode()


def test_an_argument_that_is_not_utf8() -> None:
    assert shortened(("\udcff",)) == ("?",)


def test_timestamps() -> None:
    assert timestamp(0.0625) == "1970-01-01T00:00:00.062Z"


def test_records_in_a_folder(tmp_path: Path) -> None:
    records = Records(tmp_path)
    older = replace(RECORD, id="aaaaaaaaaa", begun="2026-11-22T23:59:59.000Z")
    records.write(RECORD)
    records.write(older)
    (tmp_path / "2026-11-23" / "broken.json").write_text("{")
    assert list(records.all()) == [older, RECORD]
    assert by_id(records.all(), "aaa") == older
    for prefix in ("", "zz"):
        with pytest.raises(NotFound):
            by_id(records.all(), prefix)


def test_what_is_looked_for_is_found_without_reading_all(tmp_path: Path) -> None:
    """By the notes in `index`, and by what files are called: a record that nobody needs may be broken."""
    records = Records(tmp_path)
    batch = {"system": "pbs", "job": "12[3].host", "array_job": "12[].host"}
    wanted = replace(RECORD, id="bbbbbbbbbb", batch=batch)
    running = replace(wanted, state="running", end=None, host="elsewhere")
    records.write(running)
    assert list(records.running()) == [running]
    assert list(records.of_batch_job("pbs", "12[].host")) == [running]
    records.write(wanted)
    assert list(records.running()) == []
    records.write(replace(RECORD, id="cccccccccc", batch={"system": "../..", "job": "/etc"}))
    (tmp_path / RECORD.begun[:10] / "dddddddddd.json").mkdir()  # to read it fails, and so would reading all of them
    assert list(records.of_batch_job("pbs", "12[].host")) == [wanted]
    assert list(records.of_batch_job("slurm", "12")) == []
    assert list(records.beginning("bbb")) == [wanted]
    assert list(records.beginning("*")) == list(records.beginning("../bbb")) == []
    assert sorted(path.name for path in (tmp_path / "index/batch").iterdir()) == ["other-other", "pbs-12"]


def test_a_note_of_a_record_that_is_gone_is_passed_over(tmp_path: Path) -> None:
    """Old days are removed by whoever keeps the folder."""
    records = Records(tmp_path)
    records.write(replace(RECORD, state="running", end=None, batch={"system": "slurm", "job": "7"}))
    records.path(RECORD).unlink()
    assert list(records.running()) == list(records.of_batch_job("slurm", "7")) == []


def test_a_running_record_without_its_process_is_lost(tmp_path: Path) -> None:
    records = Records(tmp_path)
    here = os.uname().nodename
    records.write(replace(RECORD, state="running", host=here, end=None, machine=replace(RECORD.machine, pid=2**22 + 1)))
    (record,) = records.all()
    assert record.state == "lost"
    assert record.end is not None
    assert record.end.status == 137
    check(record)


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        (Filter(), True),
        (Filter(user="ada"), True),
        (Filter(user="1000"), True),
        (Filter(user="bob"), False),
        (Filter(image="debian"), True),
        (Filter(image="debian:12"), True),
        (Filter(image="aaaa"), True),
        (Filter(image="sha256:aaa"), True),
        (Filter(image="debian:1"), False),
        (Filter(day="2026-11-23"), True),
        (Filter(day="2026-11"), True),
        (Filter(day="2025"), False),
        (Filter(status=0), True),
        (Filter(status=1), False),
        (Filter(state="lost"), False),
        (Filter(job="42"), False),
    ],
)
def test_filters(wanted: Filter, matches: bool) -> None:
    assert wanted.matches(RECORD) is matches


@pytest.mark.parametrize(
    ("job", "matches"), [("42", True), ("40", True), ("40_2", True), ("40_3", False), ("2", False), ("", False)]
)
def test_the_records_of_a_batch_job(job: str, matches: bool) -> None:
    record = replace(RECORD, batch={"system": "slurm", "job": "42", "array_job": "40", "array_task": "2"})
    assert Filter(job=job).matches(record) is matches


@pytest.mark.parametrize(
    "changed",
    [
        {"begun": 5},
        {"uid": "0"},
        {"id": "../../../etc/x"},
        {"id": "ffffffffff"},  # another file's
        {"begun": "2026-11-22T10:00:00.000Z"},  # another day's
        {"batch": {"job": 1}},
        {"batch": "text"},
        {"phases": {"gone": "soon"}},
        {"phases": {"gone": float("nan")}},
        {"phases": {"gone": 1e400}},
        {"used": {"cpu_user": "much"}},
        {"machine": {**asdict(RECORD.machine), "memory": 1 << 70}},
        {"machine": {**asdict(RECORD.machine), "cpus": True}},
        {"end": {"status": None, "reason": "exit"}},
        {"command": [1]},
        {"name": None},
    ],
)
def test_what_others_wrote_for_a_record(tmp_path: Path, changed: dict[str, Any]) -> None:
    """An administrator reads users' folders: what is no record there is passed over."""
    records = Records(tmp_path)
    records.write(RECORD)
    path = records.path(RECORD)
    assert list(records.all()) == [RECORD]
    path.write_text(json.dumps(asdict(RECORD) | changed))
    assert list(records.all()) == []


def test_no_file_of_a_folder_of_records_stops_its_reader(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.write(RECORD)
    folder = records.path(RECORD).parent
    os.mkfifo(folder / "aaaaaaaaaa.json")
    (folder / "bbbbbbbbbb.json").mkdir()
    (folder / "cccccccccc.json").symlink_to("cccccccccc.json")
    (folder / "dddddddddd.json").write_text("[" * 100_000)
    assert list(records.all()) == [RECORD]
