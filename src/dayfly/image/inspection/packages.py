"""The packages that a root has, as dpkg's status says (dpkg(1), deb822(5)). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dayfly.image.inspection.texts import shown
from dayfly.values import dataclass

STATUS_LIMIT = 16 * 1024**2
MOST_PACKAGES = 100_000
_SOURCE = re.compile(r"([^ (]+)(?: \(([^)]*)\))?.*")
_WANTED = {"package", "version", "architecture", "source", "status"}


@dataclass(frozen=True)
class Package:
    """An installed package, and the source package that it was made from."""

    name: str
    version: str
    architecture: str
    source: str
    source_version: str


def parse_status(content: bytes, *, always: bool = False) -> list[Package]:
    """The packages of a status file that are unpacked, configured or not.

    With `always`, also packages without a status: files in `status.d` have none.
    """
    found: list[Package] = []
    for fields in _paragraphs(content):
        state = fields.get("status", "").split(" ")[-1]
        gone = state in ("not-installed", "config-files", "") and not (always and not state)
        if gone or not fields.get("package") or not fields.get("version") or len(found) >= MOST_PACKAGES:
            continue
        name, version = shown(fields["package"]), shown(fields["version"])
        source = _SOURCE.fullmatch(fields.get("source", ""))
        found.append(
            Package(
                name,
                version,
                shown(fields.get("architecture", "")),
                shown(source[1]) if source else name,
                shown(source[2]) if source and source[2] else version,
            )
        )
    return found


def _paragraphs(content: bytes) -> Iterator[dict[str, str]]:
    fields: dict[str, str] = {}
    for line in content.decode("utf-8", "backslashreplace").split("\n"):
        if not line.strip():
            if fields:
                yield fields
            fields = {}
        elif not line.startswith((" ", "\t")):
            name, _, value = line.partition(":")
            if name.lower() in _WANTED:
                fields.setdefault(name.lower(), value.strip())
    if fields:
        yield fields
