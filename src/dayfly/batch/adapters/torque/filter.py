"""qsub's submit filter for Torque, which does not have resources like `#PBS -l vm_image=debian:12`: requests for a machine are
converted to variables of the job at submission. Pure.

qsub passes the script on stdin and its own arguments; the filter's output becomes the script. The filter cannot change the
arguments (Torque's Administrator Guide, "Job submission filter").
"""

from __future__ import annotations

import getopt
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence

from dayfly.batch.jobshell.request import Request, parse
from dayfly.batch.setup.hooks import REQUESTS
from dayfly.errors import Refused
from dayfly.values import dataclass

_OPTIONS = "a:A:b:c:C:d:D:e:EfFhIj:J:k:K:l:L:m:M:n:N:o:p:P:q:r:S:t:T:u:v:VwW:xXz"
"""qsub(1B)."""
_SIZE = re.compile(r"([0-9]{1,15})([kmgt]?)([bw]?)")
_RESOURCES = {f"vm_{request}": f"DAYFLY_{request.upper()}" for request in REQUESTS}
_VARIABLES = {variable: name.removeprefix("vm_") for name, variable in _RESOURCES.items()}


@dataclass(frozen=True)
class Filtered:
    """The script for Torque, the job's request, and its queue (empty: the default one)."""

    script: str
    request: Request
    queue: str


def rewrite(script: str, arguments: Sequence[str]) -> Filtered:
    """Read a script and qsub's arguments. Raises `Refused` for requests that cannot be converted."""
    given = _options(arguments)
    for name in _requests(given.get("l", [])):
        hint = f"-v {_RESOURCES[name]}=..., or in the script: #PBS -l {name}=..."
        raise Refused(f"{name} on qsub's command line is not supported under Torque", hint)
    prefix = (given.get("C") or ["#PBS"])[-1] or "#PBS"
    lines = script.split("\n")
    said = dict(_directives(lines, prefix))
    requests = _requests(text for options in said.values() for text in options.get("l", []))
    asked = [f"{_RESOURCES[name]}={value}" for name, value in requests.items()]
    variables = [_items(text) for options in said.values() for text in options.get("v", [])][-1:]
    own = variables[0] if variables else []
    if asked and given.get("v"):
        raise Refused("with -v on qsub's command line, Torque ignores the script's variables", f"add {','.join(asked)} to -v")
    if asked:
        lines = _rewritten(lines, said, f"{prefix} -v {','.join([*own, *asked])}", prefix)
    queues = given.get("q") or [text for options in said.values() for text in options.get("q", [])] or [""]
    effective = _items(given["v"][-1]) if given.get("v") else [*own, *asked]
    resources = [*(text for options in said.values() for text in options.get("l", [])), *given.get("l", [])]
    return Filtered("\n".join(lines), _request(effective, resources), queues[-1].partition("@")[0])


def _directives(lines: Sequence[str], prefix: str) -> Iterator[tuple[int, Mapping[str, list[str]]]]:
    """The directives for qsub by line number: those before the first command."""
    for place, line in enumerate(lines):
        if line.startswith(prefix):
            yield place, _options(_words(line.removeprefix(prefix)))
        elif line.strip() and not line.lstrip().startswith("#") and not (place == 0 and line.startswith(":")):
            return


def _rewritten(lines: Sequence[str], said: Mapping[int, Mapping[str, list[str]]], variables: str, prefix: str) -> list[str]:
    """The lines, with one that has all variables instead of our requests and of other variables."""
    changed = list(lines[:1]) if lines[0].startswith(("#!", ":")) else []
    first = len(changed)
    changed.append(variables)
    for place, line in enumerate(lines[first:], first):
        options = said.get(place, {})
        if not options.get("v") and not _requests(options.get("l", [])):
            changed.append(line)
            continue
        if len(options) > 1:
            raise Refused(f"this line has several options: {line.strip()[:200]}", "write -l and -v on separate lines")
        rest = [item for text in options.get("l", []) for item in _items(text) if item.partition("=")[0] not in _RESOURCES]
        if rest:
            changed.append(f"{prefix} -l {','.join(rest)}")
    return changed


def _requests(resources: Iterable[str]) -> dict[str, str]:
    """Our requested resources. Raises `Refused` for a second folder, which Torque would take for a resource."""
    found: dict[str, str] = {}
    for text in resources:
        last = ""
        for item in _items(text):
            name, equals, value = item.partition("=")
            if name in _RESOURCES and equals:
                found[name] = value
            elif last == "vm_share" and item.startswith("/"):
                raise Refused("under Torque, a job can request only one folder", "the site can share others with every job")
            last = name
    return found


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _request(variables: Sequence[str], resources: Sequence[str]) -> Request:
    """The request, with the limits that pbs_mom sets on the host: the smaller one of mem and pmem, and of vmem and pvmem."""
    pairs = [item.partition("=") for item in variables]
    requests = [f"{_VARIABLES[name]}={value}" for name, _, value in pairs if name in _VARIABLES]
    asked = [f"memory_mib={_least(resources, 'mem', 'pmem')}", f"address_space_mib={_least(resources, 'vmem', 'pvmem')}"]
    return parse([*requests, *asked, "--", "job"])


def _least(resources: Sequence[str], *names: str) -> int:
    """The smallest of these resources in MiB, rounded up; the last value of each counts. 0: none is given."""
    pairs = [item.partition("=") for text in resources for item in _items(text)]
    asked = {name: parse_size(value) for name, _, value in pairs if name in names}
    return -(-min((size for size in asked.values() if size), default=0) // 1024**2)


def parse_size(text: str) -> int:
    """Bytes of a size (pbs_resources(7B)): `2gb`, `4096`, words of eight bytes as `512mw`. 0 if it is malformed."""
    match = _SIZE.fullmatch(text.strip().lower())
    return int(match[1]) * 1024 ** "bkmgt".index(match[2] or "b") * (8 if match[3] == "w" else 1) if match else 0


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=False)
    except ValueError:
        return text.split()


def _options(words: Sequence[str]) -> dict[str, list[str]]:
    """Options of qsub with their values, in order; empty if they are invalid (qsub itself reports that)."""
    try:
        pairs, _ = getopt.getopt(list(words), _OPTIONS)
    except getopt.GetoptError:
        return {}
    found: dict[str, list[str]] = {}
    for option, value in pairs:
        found.setdefault(option.removeprefix("-"), []).append(value)
    return found
