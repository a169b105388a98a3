"""What a site adds to HTCondor's configuration, rendered from its settings. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from dayfly.batch import scripts
from dayfly.settings import Settings

WRAPPER, CONFIGURATION, SUBMIT = "wrapper", "50-dayfly.conf", "50-dayfly-submit.conf"


def files(settings: Settings, program: str, settings_file: str, folder: str) -> Mapping[str, str]:
    """The texts by their names. `folder` is where the hosts have the wrapper."""
    wrapper = scripts.filled(
        __package__,
        "wrapper.sh",
        ALWAYS=shlex.quote(" ".join(scripts.always(settings))),
        PROGRAM=shlex.quote(program),
        SETTINGS=shlex.quote(settings_file),
    )
    return {WRAPPER: wrapper, CONFIGURATION: f"USER_JOB_WRAPPER = {folder}/{WRAPPER}\n", SUBMIT: submit(settings)}


def submit(settings: Settings) -> str:
    """What condor_schedd refuses when a job is submitted: images that no job of this site may have, whatever its queue.

    The queue is the slot's, which is known when the job starts; so an image is refused here that none of them allows.
    """
    patterns = {tuple(settings.batch_images), *(tuple(queue.images) for queue in settings.batch_queues.values() if queue.images)}
    if () in patterns:
        return "# every image is allowed: nothing is refused when a job is submitted\n"
    words = sorted({pattern for some in patterns for pattern in some})
    allowed = " || ".join(f"regexp({_quoted(_expression(pattern))}, VMImage)" for pattern in words)
    reason = _quoted(f"dayfly: this image is not allowed here; these are: {', '.join(words)}")
    return f"""\
SUBMIT_REQUIREMENT_NAMES = $(SUBMIT_REQUIREMENT_NAMES) DayflyImage
SUBMIT_REQUIREMENT_DayflyImage = isUndefined(VMImage) || VMImage == "none" || {allowed}
SUBMIT_REQUIREMENT_DayflyImage_REASON = {reason}
"""


def _expression(glob: str) -> str:
    """A pattern of `batch.images` as a regular expression, for a name with its library or, for the system's, without.

    It may let pass what the host refuses, and never refuses what the host lets pass.
    """
    whole = re.sub(r"\[[^\]]*\]", "?", glob if "/" in glob else f"system/{glob}")
    words = {"*": ".*", "?": "."}
    body = "".join(words.get(letter, letter if letter.isalnum() or letter in "-_:/" else f"[{letter}]") for letter in whole)
    library, _, name = body.partition("/")
    return f"^(system/)?{name}$" if library == "system" else f"^({library}/)?{name}$" if "." in library else f"^{body}$"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', "'") + '"'
