"""Installs what `setup` renders on a host of HTCondor: the wrapper, and files of their own in its `config.d`.

Both are written on every host: only starters use the wrapper's line, and only condor_schedd the requirements.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from dayfly.batch.adapters.htcondor import setup
from dayfly.batch.setup.site_files import Made, Places, changed, check_made, check_there, is_free, read
from dayfly.errors import FieldError, FileErrors
from dayfly.settings import Settings

_NAME = "USER_JOB_WRAPPER"
_LEFT_OUT = re.compile(r"\..*|#.*|.*~|.*\.rpm(save|new)")
"""Files that HTCondor ignores: the default of LOCAL_CONFIG_DIR_EXCLUDE_REGEXP."""
_SAID = re.compile(rf"^\s*{_NAME}\s*=\s*(\S+)", re.IGNORECASE | re.MULTILINE)


def plan(places: Places, settings: Settings) -> Mapping[Path, Made]:
    """The files to write, without those that are up to date.

    Raises `FileErrors` with all conflicts.
    """
    errors: list[FieldError] = []
    texts = setup.files(settings, places.program, places.settings_file, str(places.hooks))
    wrapper, folder = places.hooks / setup.WRAPPER, places.system / "config.d"
    new = {wrapper: Made(texts[setup.WRAPPER], 0o755), folder / setup.SUBMIT: Made(texts[setup.SUBMIT])}
    if not folder.is_dir():
        errors.append(FieldError(str(folder), "does not exist", "give the folder of HTCondor's configuration with --conf"))
    check_there(places.program, "give the path of dayfly on the hosts with --program", errors)
    ours = folder / setup.CONFIGURATION
    named = [is_free(_NAME, said, wrapper, path.name, errors) for path, said in _named(places.system, ours, errors)]
    new[ours] = Made(texts[setup.CONFIGURATION] if all(named) else setup.HEAD)
    for path in new:
        check_made(path, "htcondor", errors)
    if errors:
        raise FileErrors(places.system, errors)
    return changed(new)


def _named(conf: Path, ours: Path, errors: list[FieldError]) -> Iterator[tuple[Path, str]]:
    """The wrappers in the site's own files, each with the file."""
    main = (conf / "condor_config", conf / "condor_config.local")
    for path in (*main, *sorted((conf / "config.d").glob("*"))):
        if path != ours and not _LEFT_OUT.fullmatch(path.name) and path.is_file():
            yield from ((path, value) for value in _SAID.findall(read(path, errors)))
