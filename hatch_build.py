"""Compile the launcher and the guest agent, and pack the agent as the wheel carries it. Needs a C compiler and nothing else."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

GUEST = Path("src/dayfly/guest")
ARCHIVE = GUEST / "agent.cpio"
LAUNCHER = Path("launcher/dayfly")
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-s", "-fno-ident")


def initramfs(root: Path) -> Any:
    """The module that packs it, from the tree that is being built: Dayfly itself cannot be imported yet."""
    spec = importlib.util.spec_from_file_location("initramfs", root / GUEST / "initramfs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["initramfs"] = module
    spec.loader.exec_module(module)
    return module


class AgentBuildHook(BuildHookInterface[Any]):
    """Runs before the wheel is packed (and before an editable install)."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 (hatchling's signature)
        root = Path(self.root)
        sources = sorted(str(path) for path in (root / "guest").glob("*.c"))
        compiler = shlex.split(os.environ.get("CC", "cc"))
        subprocess.run([*compiler, *FLAGS, "-o", str(root / LAUNCHER), str(root / LAUNCHER.with_name("launcher.c"))], check=True)
        with tempfile.TemporaryDirectory() as folder:
            agent = Path(folder) / "agent"
            subprocess.run([*compiler, *FLAGS, "-o", str(agent), *sources], check=True)
            packed = initramfs(root).agent_archive(agent.read_bytes())
        (root / ARCHIVE).write_bytes(packed)
        digest = hashlib.sha256(packed).hexdigest()  # read at every job's start, where hashing would cost too much
        (root / ARCHIVE).with_suffix(".sha256").write_text(f"{digest}\n")
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-linux_x86_64"
