"""What a site adds to Slurm's configuration, rendered from its settings. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources

from dayfly.batch import policy
from dayfly.settings import Settings


def files(settings: Settings, plugin: str, program: str, settings_file: str) -> Mapping[str, str]:
    """The texts by the names of Slurm's files. Paths are those on the nodes."""
    return {
        "plugstack.conf": plugstack(settings, plugin, program, settings_file),
        "slurm.conf": "PlugStackConfig=/etc/slurm/plugstack.conf\nJobSubmitPlugins=lua\n",
        "job_submit.lua": job_submit(settings),
    }


def plugstack(settings: Settings, plugin: str, program: str, settings_file: str) -> str:
    """The plugin's line. `required`: where it is missing a job fails, rather than run on the node itself."""
    everywhere = ["*"] if settings.batch_vm == "always" else []
    partitions = everywhere or sorted(name for name, queue in settings.batch_queues.items() if queue.vm == "always")
    words = ["required", plugin, f"dayfly={program}"]
    words += [f"settings={settings_file}"] if settings_file else []
    words += [f"partitions={':'.join(partitions)}"] if partitions else []
    return " ".join(words) + "\n"


def job_submit(settings: Settings) -> str:
    """A job_submit.lua that refuses, when a job is submitted, what the job shell would refuse on the node."""
    rules = {name: policy.rules(settings, name) for name in ("", *settings.batch_queues)}
    table = "".join(
        f"   [{_quoted(name)}] = {{ vm = {_quoted(rule.vm)}, image = {_quoted(rule.image)}, "
        f"images = {{ {', '.join(_quoted(_pattern(glob)) for glob in rule.images)} }} }},\n"
        for name, rule in rules.items()
    )
    logic = resources.files(__package__).joinpath("job_submit.lua").read_text()
    return logic.replace("   -- RULES\n", table)


def _pattern(glob: str) -> str:
    """A pattern of `batch.images` as Lua writes it, for an image's whole name with its library."""
    full = glob if "/" in glob else f"system/{glob}"
    words = {"*": ".*", "?": "."}
    return "^" + "".join(words.get(letter, letter if letter.isalnum() else f"%{letter}") for letter in full) + "$"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
