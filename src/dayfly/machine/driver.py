"""The interface to a hypervisor, which starts machines. QEMU as a child process (`dayfly.machine.qemu`) is one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import StrEnum

TYPE_CHECKING = False  # typing's own costs an import at every start, and checkers know the name
if TYPE_CHECKING:
    from dayfly.machine.config import MachineConfig
    from dayfly.machine.qemu import Launched
    from dayfly.machine.resources import OpenResources


class Ability(StrEnum):
    """A capability of a driver, besides starting and ending machines."""

    COLD_START = "cold-start"
    CLONE = "clone"
    SAVE = "save"
    PAUSE = "pause"
    CONSOLE = "console"
    DETACH = "detach"
    """Its machines outlive the process that starts them by themselves, without a keeper."""


class Driver(ABC):
    """Starts machines. Callers check `abilities` before they use one."""

    abilities: frozenset[Ability]

    @abstractmethod
    def start(self, config: MachineConfig, resources: OpenResources) -> Launched:
        """Start a machine with these open files, which the caller must close.

        Raises `DayflyError` if the host lacks something that it needs.
        """
