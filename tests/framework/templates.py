"""What tests see of templates, and do to them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from dayfly.files import copy_data, fingerprint
from tests.framework.site import IMAGE, Site


def listed(site: Site) -> list[dict[str, Any]]:
    """The templates as programs get them."""
    finished = site.dayfly("template", "list", "--json")
    assert finished.status == 0, finished.err
    templates: list[dict[str, Any]] = json.loads(finished.out)
    return templates


def start_of(site: Site) -> tuple[str, str]:
    """How the last job's machine came to be, and why not from a template."""
    machine = site.record()["machine"]
    return machine["start"], machine["cold_reason"]


def folder_of(own_templates: Path) -> Path:
    """The only template's."""
    (folder,) = (path for path in own_templates.iterdir() if path.is_dir())
    return folder


def ready_template(site: Site) -> Path:
    """A template of the shared store that fits this site's jobs, made when it is missing."""
    shared = site.library / "templates"
    own, site.templates = site.templates, shared
    site.configure()
    finished = site.dayfly("template", "build", IMAGE)
    assert finished.status == 0, finished.err
    site.templates = own
    site.configure()
    return shared / finished.out.decode().strip()


def lend_template(site: Site, own_templates: Path) -> Path:
    """A copy of the shared store's template in a test's own folder: to make one takes ten times as long."""
    shared = ready_template(site)
    copy = own_templates / shared.name
    shutil.copytree(shared, copy, copy_function=copy_sparse)
    refingerprint(copy)
    return copy


def copy_sparse(source: str, target: str) -> None:
    """Copy a file with its mode, and its holes where they are: a template's digest says where its data is."""
    with Path(source).open("rb") as given, Path(target).open("xb") as made:
        size = os.fstat(given.fileno()).st_size
        os.ftruncate(made.fileno(), size)
        copy_data(given.fileno(), made.fileno(), size)
        os.fchmod(made.fileno(), os.fstat(given.fileno()).st_mode)


def refingerprint(folder: Path) -> None:
    """Write the fingerprints of the files as they are into template.json."""
    about = json.loads((folder / "template.json").read_text())
    for part, file in about["files"].items():
        (folder / part).chmod(0o600)
        file["fingerprint"] = fingerprint((folder / part).stat())
    (folder / "template.json").write_text(json.dumps(about))
    (folder / "template.json").chmod(0o600)
    folder.chmod(0o700)
    folder.parent.chmod(0o700)


def refingerprint_only(folder: Path) -> None:
    about = json.loads((folder / "template.json").read_text())
    for part, file in about["files"].items():
        file["fingerprint"] = fingerprint((folder / part).stat())
    (folder / "template.json").chmod(0o644)
    (folder / "template.json").write_text(json.dumps(about))
    (folder / "template.json").chmod(0o444)
