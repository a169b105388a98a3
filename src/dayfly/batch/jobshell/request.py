"""What a batch system's hook tells the job shell. Pure, and on the way to every job's start."""

from __future__ import annotations

from collections.abc import Sequence

from dayfly.errors import Refused
from dayfly.values import dataclass

NONE = "none"
"""The image of a job that wants no machine."""


@dataclass(frozen=True)
class Request:
    """The hook's words. Empty or 0: not said.

    `environment` is the descriptor of a file with the job's variables, each ended by a zero byte; -1: they are the job shell's.
    `memory_mib`, `cpus_per_task`, `tasks_here` and `restarts` (how often the job was started before) are what the batch system
    vouches for; variables that a user could set do not. `address_space_mib` is what each process may map at most, where the job
    is submitted (on the node the process has that limit). `task_prolog` is the site's program to run first.
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
        """Whether the job itself asks for a machine."""
        return self.image != NONE and any((self.image, self.boot, self.network, self.share))


_TEXTS = ("image", "boot", "network", "share", "settings", "task_prolog")
_NUMBERS = ("environment", "memory_mib", "address_space_mib", "cpus_per_task", "tasks_here", "restarts")


def parse(words: Sequence[str]) -> Request:
    """Read `WORD=VALUE… -- COMMAND`. Raises `Refused`: the hook and this Dayfly are of different versions then."""
    split = words.index("--") if "--" in words else len(words)
    if split >= len(words) - 1:
        raise Refused("the job shell was given no command", "it is the batch system's to call, not a person's")
    texts: dict[str, str] = {}
    numbers: dict[str, int] = {}
    for word in words[:split]:
        name, _, value = word.partition("=")
        if name in _TEXTS:
            texts[name] = value
        elif name in _NUMBERS and value.isdecimal() and len(value) < 16:
            numbers[name] = int(value)
        else:
            raise Refused(f"the job shell does not understand {word!r}", "are the plugin and Dayfly of the same version?")
    # _TEXTS and _NUMBERS say which is which
    return Request(tuple(words[split + 1 :]), **texts, **numbers)  # type: ignore[arg-type]


def check_whole(share: str) -> None:
    """Refuse, with `Refused`, relative paths of folders to share, of jobs that start elsewhere than they are submitted."""
    for text in share.split(","):
        if text and not text.startswith("/"):
            raise Refused(f"a folder to share is named by its whole path, and {text[:200]!r} is none", "begin it with /")


def variables(block: bytes) -> dict[bytes, bytes]:
    """The variables of an environment whose `NAME=value` entries end in zero bytes. The first of a name counts."""
    found: dict[bytes, bytes] = {}
    for entry in block.split(b"\0"):
        name, equals, value = entry.partition(b"=")
        if equals and name:
            found.setdefault(name, value)
    return found
