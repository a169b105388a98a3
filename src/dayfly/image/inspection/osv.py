"""Known vulnerabilities of packages: files in the OSV format (ossf.github.io/osv-schema, version 1), as osv.dev has them for
Debian.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dayfly import files
from dayfly.errors import NotFound, Refused
from dayfly.image.fields import Fields, decode
from dayfly.image.inspection.packages import Package
from dayfly.image.inspection.texts import shown
from dayfly.image.inspection.versions import KEY, compare
from dayfly.values import dataclass

RECORD_LIMIT = 8 * 1024**2
MOST_RECORDS = 500_000
_MOST_EVENTS = 10_000
_EVENTS = ("introduced", "fixed", "last_affected")


@dataclass(frozen=True)
class Vulnerability:
    """A known vulnerability of an installed package. `fixed` is the first version without it, empty if none is known."""

    id: str
    aliases: tuple[str, ...]
    package: str
    version: str
    fixed: str
    summary: str


def records(path: Path) -> Iterator[Fields]:
    """The records of a file, or of all files `*.json` in a folder. Raises `NotFound`, `Refused`."""
    if not path.exists():
        raise NotFound(f"there is no {path}", "a file in the OSV format, or a folder of such files")
    count = 0
    for place in _json_files(path) if path.is_dir() else iter([path]):
        count += 1
        if count > MOST_RECORDS:
            raise Refused(f"{path} has more than {MOST_RECORDS} records")
        yield decode(files.read(place, RECORD_LIMIT), str(place))
    if not count:
        raise Refused(f"{path} has no *.json file", "a folder of files in the OSV format")


def _json_files(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".json") and entry.is_file():
                yield Path(entry.path)


def find(packages: Sequence[Package], release: str, found: Iterator[Fields]) -> list[Vulnerability]:
    """The vulnerabilities of a Debian release's (`12`) packages, by their source packages. Raises `Refused` for a malformed
    record.
    """
    sources: dict[str, dict[str, Package]] = {}
    for package in packages:
        sources.setdefault(package.source, {}).setdefault(package.source_version, package)
    problems: dict[tuple[str, str, str], Vulnerability] = {}
    for record in found:
        for problem in _of_record(record, sources, release):
            problems.setdefault((problem.package, problem.version, problem.id), problem)
    return [problems[key] for key in sorted(problems)]


def _of_record(record: Fields, sources: Mapping[str, Mapping[str, Package]], release: str) -> Iterator[Vulnerability]:
    identifier = record.text("id", limit=200)
    if record.has("withdrawn"):
        return
    for index, element in enumerate(record.items("affected", 10_000)):
        affected = Fields.of(element, f"{record.place}: affected[{index}]")
        package = affected.section("package")
        if package.values.get("ecosystem") not in ("Debian", f"Debian:{release}"):
            continue
        name = package.text("name", limit=300)
        for version in sources.get(name, {}):
            if is_affected(affected, version):
                aliases = [*record.items("aliases", 1000), *record.items("upstream", 1000)]
                names = tuple(dict.fromkeys(shown(alias) for alias in aliases if isinstance(alias, str)))
                summary = record.values.get("summary") or record.values.get("details") or ""
                text = shown(" ".join(summary[:2000].split()), 200) if isinstance(summary, str) else ""
                yield Vulnerability(shown(identifier), names, shown(name), version, _fixed(affected, version), text)


def is_affected(affected: Fields, version: str) -> bool:
    """Whether a record affects a version, by the rules of the OSV format. Raises `Refused`."""
    if version in affected.items("versions", 1_000_000):
        return True
    return any(_in_range(events, version) for events in _ranges(affected))


def _in_range(events: Sequence[tuple[str, str]], version: str) -> bool:
    inside = False
    for kind, limit in events:
        order = 1 if kind == "introduced" and limit == "0" else compare(version, limit)
        if kind == "introduced" and order >= 0:
            inside = True
        elif (kind == "fixed" and order >= 0) or (kind == "last_affected" and order > 0):
            inside = False
    return inside


def _fixed(affected: Fields, version: str) -> str:
    """The first later version that is fixed; empty if none is known."""
    fixed = [limit for events in _ranges(affected) for kind, limit in events if kind == "fixed" and compare(limit, version) > 0]
    return shown(min(fixed, key=KEY)) if fixed else ""


def _ranges(affected: Fields) -> Iterator[list[tuple[str, str]]]:
    """The events of each range of versions of packages, sorted."""
    for index, element in enumerate(affected.items("ranges", 1000)):
        limits = Fields.of(element, f"{affected.place}.ranges[{index}]")
        if limits.values.get("type") != "ECOSYSTEM":
            continue
        events = [Fields.of(event, f"{limits.place}.events") for event in limits.items("events", _MOST_EVENTS)]
        pairs = [(kind, event.text(kind, limit=300)) for event in events for kind in _EVENTS if event.has(kind)]
        yield sorted(pairs, key=lambda pair: (pair[1] != "0" or pair[0] != "introduced", KEY(pair[1])))
