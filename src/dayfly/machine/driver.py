"""What starts machines: the seam between Dayfly and a hypervisor. QEMU as a child process (`dayfly.machine.qemu`) is one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import StrEnum

TYPE_CHECKING = False  # typing's own costs an import at every start, and checkers know the name
if TYPE_CHECKING:
    from dayfly.machine.config import MachineConfig
    from dayfly.machine.qemu import Launched
    from dayfly.machine.resources import OpenResources


class Ability(StrEnum):
    """Something that a driver can do, besides starting and ending machines."""

    COLD_START = "cold-start"
    CLONE = "clone"
    SAVE = "save"
    PAUSE = "pause"
    CONSOLE = "console"
    DETACH = "detach"
    """Its machines outlive the process that starts them by themselves, without a keeper."""


class Driver(ABC):
    """Starts machines. Whoever needs an ability looks for it in `abilities` first."""

    abilities: frozenset[Ability]

    @abstractmethod
    def start(self, config: MachineConfig, resources: OpenResources) -> Launched:
        """Start a machine made of these open files, which stay the caller's to close.

        Raises `DayflyError` where the host lacks what it needs.
        """
