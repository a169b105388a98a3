"""The principal who requests a machine: a user of this host, with groups. Services make requests for other users."""

from __future__ import annotations

import grp
import os
import pwd

from dayfly.values import dataclass


@dataclass(frozen=True)
class Principal:
    """A user by ids. `gid` is the primary group, `groups` are the others."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    def name(self) -> str:
        """The user's name; the uid if there is none."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)

    def home(self) -> str:
        """The home directory in the passwd database; `/` if there is none."""
        try:
            return pwd.getpwuid(self.uid).pw_dir
        except KeyError:
            return "/"


def current() -> Principal:
    """The user who runs this process."""
    return Principal(os.getuid(), os.getgid(), tuple(os.getgroups()))


def group_name(gid: int) -> str:
    """A group's name; made from the gid if it has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"group{gid}"
