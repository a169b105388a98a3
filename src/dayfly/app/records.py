"""Usage records of a user, or of all users: finding those that are meant."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dayfly import settings as site
from dayfly.errors import Refused
from dayfly.job.records import Records, by_id
from dayfly.job.usage import UsageRecord


def of_everybody() -> list[Records]:
    """The records of each user that we may read. Raises `Refused` where each has them where nobody knows."""
    folder = str(site.load(user=site.USER).records_folder)
    if site.USER not in folder:
        hint = "a folder like /var/spool/dayfly/{user}/records as records.folder of the site's settings is"
        raise Refused(f"the folders of users' records are not known by {folder}", hint)
    pattern = "*".join(map(glob.escape, folder.split(site.USER)))
    folders = [Path(path) for path in sorted(glob.glob(pattern))]  # noqa: PTH207 (an absolute pattern)
    return [Records(folder) for folder in folders if not folder.is_symlink()]


@dataclass(frozen=True)
class Filter:
    """Which records are meant; None and empty mean all."""

    user: str | None = None
    image: str | None = None
    day: str | None = None
    status: int | None = None
    state: str | None = None
    job: str | None = None

    def matches(self, record: UsageRecord) -> bool:
        """Whether this record is one of them."""
        return (
            self.user in (None, record.user, str(record.uid))
            and self._matches_image(record)
            and record.begun.startswith(self.day or "")
            and self.state in (None, record.state)
            and self.job in (None, *_job_names(record))
            and (self.status is None or (record.end is not None and record.end.status == self.status))
        )

    def _matches_image(self, record: UsageRecord) -> bool:
        if self.image is None:
            return True
        name, digest = record.image.reference, record.image.digest
        return self.image in (name, name.partition(":")[0]) or digest.startswith((self.image, f"sha256:{self.image}"))


def _job_names(record: UsageRecord) -> tuple[str, ...]:
    """What a batch system calls the record's job: its number, its array's, and its place in that."""
    array, task = record.batch.get("array_job", ""), record.batch.get("array_task", "")
    return tuple(filter(None, (record.batch.get("job"), array, f"{array}_{task}" if array else "")))


def matching(every: Sequence[Records], wanted: Filter, *, vouched: bool = False) -> list[tuple[UsageRecord, Records]]:
    """The records that are meant, the oldest first, each with the folder that it is in.

    With `vouched`, only those that their folder's owner wrote of himself.
    """
    found = [
        (record, records)
        for records in every
        for record in _read(records, wanted.day or "", vouched=vouched)
        if wanted.matches(record)
    ]
    return sorted(found, key=lambda one: one[0].begun)


def _read(records: Records, day: str, *, vouched: bool) -> Iterator[UsageRecord]:
    return records.vouched(day) if vouched else records.all(day)


def find(every: Sequence[Records], prefix: str, *, vouched: bool = False) -> tuple[UsageRecord, Records]:
    """The record whose id begins so, and the folder that it is in. Raises `NotFound`, also when there are several."""
    found = [(record, records) for records in every for record in records.beginning(prefix)]
    if vouched:
        found = [(record, records) for record, records in found if records.vouches_for(record)]
    record = by_id((record for record, _ in found), prefix)
    return record, next(records for one, records in found if one is record)
