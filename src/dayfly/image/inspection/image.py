"""The report about an image: what its library knows, and what is in it."""

from __future__ import annotations

import calendar
import os
import time
from pathlib import Path

from dayfly.errors import Corrupt, Refused
from dayfly.guest.boot import BootMode
from dayfly.image import blobs
from dayfly.image.inspection.report import SCHEMA, Contents, contents, known_problems
from dayfly.image.library import Library
from dayfly.image.manifest import Role
from dayfly.image.reference import Reference
from dayfly.image.trust.provenance import Stopped
from dayfly.values import asdict, dataclass

SCHEMA_FILE = Path(__file__).parent / "report.schema.json"


@dataclass(frozen=True)
class Inspected:
    """An image and its contents. `files_size` and `stored_size` are in bytes; `age_days` is from its date, `created`, on.

    `stopped` is why it may not be run (may be empty).
    """

    name: str
    library: str
    digest: str
    created: str
    age_days: int
    boot: BootMode
    kernel_version: str
    files_size: int
    stored_size: int
    origins: tuple[str, ...]
    endorsers: tuple[str, ...]
    stopped: str
    contents: Contents

    @property
    def starts_services(self) -> bool:
        """Whether the image's own init runs, and with it the enabled services; otherwise Dayfly's agent is the init."""
        return self.boot is BootMode.SYSTEM


def inspect(library: Library, reference: Reference, advisories: Path | None = None) -> Inspected:
    """Read an image of a library. Raises `NotFound`, `Corrupt`, `Refused`."""
    digest, manifest, config = library.inspect(reference)
    origins: tuple[str, ...] = ()
    endorsers: tuple[str, ...] = ()
    stopped = ""
    try:
        provenance = library.provenance(digest, str(reference))
        origins, endorsers = provenance.origins, provenance.endorsers
    except Stopped as error:
        stopped = error.message
    root = manifest.find(Role.ROOT)
    if root is None:
        hint = "import its disk without --firmware; then its files can be inspected"
        raise Refused(f"{reference} is a whole disk that firmware boots; its content cannot be read", hint)
    file = blobs.open_blob(library.layout, root, f"the root of {reference}")
    try:
        inside = contents(file, root.form)
    except (Corrupt, Refused) as error:
        raise type(error)(f"{reference}: {error.message}", error.hint) from error
    finally:
        os.close(file)
    if advisories is not None:
        inside = known_problems(inside, advisories)
    return Inspected(
        name=str(reference),
        library=str(library.kind),
        digest=digest,
        created=config.created,
        age_days=age_days(config.created, time.time()),
        boot=config.boot,
        kernel_version=config.kernel.version,
        files_size=config.size,
        stored_size=sum(layer.size for layer in manifest.layers),
        origins=origins,
        endorsers=endorsers,
        stopped=stopped,
        contents=inside,
    )


def age_days(created: str, now: float) -> int:
    """Whole days from a time of a config until `now`, in seconds since the epoch; 0 for what is in the future.

    A missing or invalid date counts as 1970, so that no image appears newer than it is.
    """
    try:
        then = calendar.timegm(time.strptime(created, "%Y-%m-%dT%H:%M:%SZ"))
    except (ValueError, OverflowError):
        then = 0
    return max(int(now - then) // 86400, 0)


def render(found: Inspected) -> dict[str, object]:
    """The report as JSON has it: docs/reference/inspection.md, and report.schema.json beside this file."""
    return {"schema": SCHEMA, **asdict(found)}
