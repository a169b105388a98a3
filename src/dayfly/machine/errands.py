"""What Dayfly itself wants of a machine, as values: commands, and the files that are there afterwards."""

from __future__ import annotations

from dayfly.machine.spec import Network, Shape, Share
from dayfly.values import dataclass, field


@dataclass(frozen=True)
class Errands:
    """Shell scripts, one after the other as root, with what they find in their environment (`NAME=value`).

    `folder` is the one whose files are wanted; of `/`, what belongs to the machine and not to its image is left out. `what` is
    what messages call a script, before its number.
    """

    scripts: tuple[str, ...]
    shape: Shape
    scratch: int
    network: Network = Network.NONE
    shares: tuple[Share, ...] = ()
    environment: tuple[str, ...] = field(default_factory=tuple)
    folder: str = "/"
    what: str = "run step"
