"""Unit tests start no process, and how long they take says nothing on a machine that does other things too."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("dayfly", deadline=None)
settings.load_profile("dayfly")
