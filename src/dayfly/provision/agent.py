"""The guest agent of this installation of Dayfly. On the hot path of every job."""

from __future__ import annotations

from pathlib import Path

from dayfly.errors import DayflyError

AGENT_ARCHIVE = Path(__file__).parent.parent / "guest/agent.cpio"
"""The guest agent as the first part of an initramfs. It is made when Dayfly is installed (hatch_build.py)."""


def no_agent() -> DayflyError:
    """The error if Dayfly was installed without its guest agent."""
    return DayflyError("this installation of Dayfly has no guest agent", "install it by pip, which builds it")


def agent_digest() -> str:
    """The agent's digest. Raises `DayflyError` if there is no agent."""
    try:
        with open(AGENT_ARCHIVE.with_suffix(".sha256")) as file:  # noqa: PTH123 (on the way to every job's start)
            return file.read().strip()
    except FileNotFoundError:
        raise no_agent() from None
