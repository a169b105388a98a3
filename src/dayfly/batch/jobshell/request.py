"""The request of a batch system's hook to the job shell. Pure, and on the hot path of every job."""

from __future__ import annotations

from collections.abc import Sequence

from dayfly.errors import Refused
from dayfly.values import dataclass

NONE = "none"
"""The image of a job that requests no machine."""


@dataclass(frozen=True)
class Request:
    """The words of the hook. Empty or 0: not given.

    `environment` is the descriptor of a file with the job's variables, each ended by a zero byte; -1: they are the job
    shell's. `memory_mib`, `cpus_per_task`, `tasks_here` and `restarts` (how often the job was started before) come from the
    batch system itself, not from variables that a user can set. `address_space_mib` limits each process's mappings, at
    submission (on the node the process has that limit). `task_prolog` is the site's program to run first.
    """

    command: tuple[str, ...]
    image: str = ""
    boot: str = ""
    network: str = ""
    share: str = ""
    settings: str = ""
    task_prolog: str = ""
    environment: int = -1
    memory_mib: int = 0
    address_space_mib: int = 0
    cpus_per_task: int = 0
    tasks_here: int = 0
    restarts: int = 0

    @property
    def asks(self) -> bool:
        """Whether the job itself requests a machine."""
        return self.image != NONE and any((self.image, self.boot, self.network, self.share))


_TEXTS = ("image", "boot", "network", "share", "settings", "task_prolog")
_NUMBERS = ("environment", "memory_mib", "address_space_mib", "cpus_per_task", "tasks_here", "restarts")


def parse(words: Sequence[str]) -> Request:
    """Read `WORD=VALUE… -- COMMAND`. Raises `Refused`: then the hook and this Dayfly have different versions."""
    split = words.index("--") if "--" in words else len(words)
    if split >= len(words) - 1:
        raise Refused("the job shell got no command", "it is called by the batch system, not by users")
    texts: dict[str, str] = {}
    numbers: dict[str, int] = {}
    for word in words[:split]:
        name, _, value = word.partition("=")
        if name in _TEXTS:
            texts[name] = value
        elif name in _NUMBERS and value.isdecimal() and len(value) < 16:
            numbers[name] = int(value)
        else:
            raise Refused(f"the job shell does not know {word!r}", "do the plugin and Dayfly have the same version?")
    # _TEXTS and _NUMBERS say which is which
    return Request(tuple(words[split + 1 :]), **texts, **numbers)  # type: ignore[arg-type]


def check_whole(share: str) -> None:
    """Raise `Refused` for relative paths of shared folders: the job does not start in the directory of its submission."""
    for text in share.split(","):
        if text and not text.startswith("/"):
            raise Refused(f"the shared folder {text[:200]!r} is not an absolute path", "write it with a leading /")


def variables(block: bytes) -> dict[bytes, bytes]:
    """The variables in an environment block, whose `NAME=value` entries end in zero bytes. The first of a name counts."""
    found: dict[bytes, bytes] = {}
    for entry in block.split(b"\0"):
        name, equals, value = entry.partition(b"=")
        if equals and name:
            found.setdefault(name, value)
    return found
