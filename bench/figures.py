"""Printing of figures: the median, the spread, the number of runs, and the ratio to the floor."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """Repeated measurements of one quantity, in one unit."""

    name: str
    values: tuple[float, ...]
    unit: str

    @property
    def median(self) -> float:
        """The median."""
        return statistics.median(self.values)

    def __str__(self) -> str:
        spread = f"{min(self.values):.4g} to {max(self.values):.4g}"
        return f"{self.name:44} {self.median:9.4g} {self.unit:5} ({spread}, {len(self.values)} runs)"


def show(floor: Figure, figures: Sequence[Figure]) -> None:
    """Print a floor, and figures with their ratio to it."""
    print(floor)
    for figure in figures:
        print(f"{figure}  {figure.median / floor.median:.2f} of the floor")


def show_host() -> None:
    """Print the host on which it was measured."""
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?")
    print(f"host: {len(os.sched_getaffinity(0))} CPUs ({model}), load {load}")
