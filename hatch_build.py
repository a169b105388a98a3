"""Compile the guest agent into the wheel. Needs a C compiler and nothing else."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

AGENT = Path("src/dayfly/machine/guest/agent")
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-s", "-fno-ident")


class AgentBuildHook(BuildHookInterface[Any]):
    """Runs before the wheel is packed (and before an editable install)."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 (hatchling's signature)
        root = Path(self.root)
        sources = sorted(str(path) for path in (root / "guest").glob("*.c"))
        compiler = shlex.split(os.environ.get("CC", "cc"))
        subprocess.run([*compiler, *FLAGS, "-o", str(root / AGENT), *sources], check=True)
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-linux_x86_64"
