"""What a site adds to HTCondor's configuration, rendered from its settings. Pure."""

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
"""The first line of our files of configuration."""
WRAPPER, CONFIGURATION, SUBMIT = "wrapper", "50-dayfly.conf", "50-dayfly-submit.conf"


def files(settings: Settings, program: str, settings_file: str, folder: str) -> Mapping[str, str]:
    """The texts by their names. `folder` is where the hosts have the wrapper."""
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
    """What condor_schedd refuses when a job is submitted: what no job of this site may have, whatever its queue.

    The queue is the slot's, which is known when the job starts; so what is refused here is what none of them allows.
    """
    requirements = {"DayflyImage": _image(settings), "DayflyMemory": _memory(settings)}
    names = " ".join(name for name, text in requirements.items() if text)
    if not names:
        return "# every image is allowed, and any memory: nothing is refused when a job is submitted\n"
    return f"SUBMIT_REQUIREMENT_NAMES = $(SUBMIT_REQUIREMENT_NAMES) {names}\n" + "".join(requirements.values())


def _memory(settings: Settings) -> str:
    """The memory that no machine has; empty: there is none such."""
    limits = [policy.rules(settings, name).memory for name in ("", *settings.batch_queues)]
    if not all(limits):
        return ""
    most = max(limits)
    return f"""\
SUBMIT_REQUIREMENT_DayflyMemory = {_NATIVE} || isUndefined(RequestMemory) || RequestMemory <= {most // _MIB}
SUBMIT_REQUIREMENT_DayflyMemory_REASON = {_quoted(f"dayfly: {policy.too_much('this pool', most)}")}
"""


def _image(settings: Settings) -> str:
    """The images that no machine has; empty: there are none such."""
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

    It may let pass what the host refuses, and never refuses what the host lets pass.
    """
    whole = re.sub(r"\[[^\]]*\]", "?", glob if "/" in glob else f"system/{glob}")
    words = {"*": ".*", "?": "."}
    body = "".join(words.get(letter, letter if letter.isalnum() or letter in "-_:/" else f"[{letter}]") for letter in whole)
    library, _, name = body.partition("/")
    return f"^(system/)?{name}$" if library == "system" else f"^({library}/)?{name}$" if "." in library else f"^{body}$"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', "'") + '"'
