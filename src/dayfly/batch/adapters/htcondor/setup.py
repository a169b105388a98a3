"""Renders a site's HTCondor configuration from its settings. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from dayfly.batch.jobshell import policy
from dayfly.batch.setup import hooks
from dayfly.settings import Settings

_MIB = 1024**2
_NATIVE = 'isUndefined(VMImage) || VMImage == "none"'
_NAMED = "VMImage"
HEAD = f"# {hooks.made_by('htcondor')}.\n"
"""The first line of our configuration files."""
WRAPPER, CONFIGURATION, SUBMIT = "wrapper", "50-dayfly.conf", "50-dayfly-submit.conf"


def files(settings: Settings, program: str, settings_file: str, folder: str) -> Mapping[str, str]:
    """The files by name. `folder` is the wrapper's on the hosts."""
    wrapper = hooks.filled(
        __package__,
        "wrapper.sh",
        ALWAYS=shlex.quote(" ".join(hooks.always(settings))),
        PROGRAM=shlex.quote(program),
        SETTINGS=shlex.quote(settings_file),
    )
    return {
        WRAPPER: wrapper,
        CONFIGURATION: f"{HEAD}USER_JOB_WRAPPER = {folder}/{WRAPPER}\n",
        SUBMIT: HEAD + submit(settings),
    }


def submit(settings: Settings) -> str:
    """The requirements that condor_schedd checks at submission: the limits for all jobs of this site, in any queue.

    The queue is the slot's, which is known only when the job starts; so only what no queue allows is refused here.
    """
    requirements = {"DayflyImage": _image(settings), "DayflyMemory": _memory(settings)}
    names = " ".join(name for name, text in requirements.items() if text)
    if not names:
        return "# all images and any memory are allowed: nothing is refused at submission\n"
    return f"SUBMIT_REQUIREMENT_NAMES = $(SUBMIT_REQUIREMENT_NAMES) {names}\n" + "".join(requirements.values())


def _memory(settings: Settings) -> str:
    """The requirement on memory; empty if there is no limit."""
    limits = [policy.rules(settings, name).memory for name in ("", *settings.batch_queues)]
    if not all(limits):
        return ""
    most = max(limits)
    return f"""\
SUBMIT_REQUIREMENT_DayflyMemory = {_NATIVE} || isUndefined(RequestMemory) || RequestMemory <= {most // _MIB}
SUBMIT_REQUIREMENT_DayflyMemory_REASON = {_quoted(f"dayfly: {policy.too_much('this pool', most)}")}
"""


def _image(settings: Settings) -> str:
    """The requirement on images; empty if all are allowed."""
    patterns = {tuple(settings.batch_images), *(tuple(queue.images) for queue in settings.batch_queues.values() if queue.images)}
    if () in patterns:
        return ""
    words = sorted({pattern for some in patterns for pattern in some})
    allowed = " || ".join(f"regexp({_quoted(_expression(pattern))}, VMImage)" for pattern in words)
    before, _, after = f"dayfly: {policy.forbidden(_NAMED, words)}".partition(_NAMED)
    reason = f"strcat({_quoted(before)}, VMImage, {_quoted(after)})"
    return f"""\
SUBMIT_REQUIREMENT_DayflyImage = {_NATIVE} || {allowed}
SUBMIT_REQUIREMENT_DayflyImage_REASON = {reason}
"""


def _expression(glob: str) -> str:
    """A pattern of `batch.images` as a regular expression, for a name with its library or, for the system's, without.

    It may accept what the host refuses, but never refuses what the host accepts.
    """
    whole = re.sub(r"\[[^\]]*\]", "?", glob if "/" in glob else f"system/{glob}")
    words = {"*": ".*", "?": "."}
    body = "".join(words.get(letter, letter if letter.isalnum() or letter in "-_:/" else f"[{letter}]") for letter in whole)
    library, _, name = body.partition("/")
    return f"^(system/)?{name}$" if library == "system" else f"^({library}/)?{name}$" if "." in library else f"^{body}$"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', "'") + '"'
