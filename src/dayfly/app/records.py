"""Finds usage records of a user, or of all users."""

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
    """The records of all users that we may read. Raises `Refused` if the settings do not tell where each user's records are."""
    folder = str(site.load(user=site.USER).records_folder)
    if site.USER not in folder:
        hint = "set records.folder in the site's settings to a folder like /var/spool/dayfly/{user}/records"
        raise Refused(f"the folders of other users' records cannot be derived from {folder}", hint)
    pattern = "*".join(map(glob.escape, folder.split(site.USER)))
    folders = [Path(path) for path in sorted(glob.glob(pattern))]  # noqa: PTH207 (an absolute pattern)
    return [Records(folder) for folder in folders if not folder.is_symlink()]


@dataclass(frozen=True)
class Filter:
    """Conditions for records; None and empty match all."""

    user: str | None = None
    image: str | None = None
    day: str | None = None
    status: int | None = None
    state: str | None = None
    job: str | None = None

    def matches(self, record: UsageRecord) -> bool:
        """Whether a record matches."""
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
    """The record's job in a batch system: its number, its array's, and the task's."""
    array, task = record.batch.get("array_job", ""), record.batch.get("array_task", "")
    return tuple(filter(None, (record.batch.get("job"), array, f"{array}_{task}" if array else "")))


def matching(every: Sequence[Records], wanted: Filter, *, own_only: bool = False) -> list[tuple[UsageRecord, Records]]:
    """The matching records, oldest first, each with its folder.

    With `own_only`, only records of the owner of their folder.
    """
    found = [
        (record, records)
        for records in every
        for record in _read(records, wanted.day or "", own_only=own_only)
        if wanted.matches(record)
    ]
    return sorted(found, key=lambda one: one[0].begun)


def _read(records: Records, day: str, *, own_only: bool) -> Iterator[UsageRecord]:
    return records.of_owner(day) if own_only else records.all(day)


def find(every: Sequence[Records], prefix: str, *, own_only: bool = False) -> tuple[UsageRecord, Records]:
    """The record whose id has this prefix, and its folder. Raises `NotFound`, also if there are several."""
    found = [(record, records) for records in every for record in records.beginning(prefix)]
    if own_only:
        found = [(record, records) for record, records in found if records.is_of_owner(record)]
    record = by_id((record for record, _ in found), prefix)
    return record, next(records for one, records in found if one is record)
