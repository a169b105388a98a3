"""The job's user in the guest: its principal, with the same ids and names, and with the caller's limits."""

from __future__ import annotations

import os
import pwd
import resource
from collections.abc import Sequence

from dayfly.guest.protocol import UNLIMITED, GuestIdentity, Limit
from dayfly.principal import Principal, group_name

_ROOT = GuestIdentity(0, 0, (0,))


def in_guest(who: Principal, *, root: bool) -> GuestIdentity:
    """The user, or root inside the machine. Root inside has no more rights on shared folders than the user has."""
    if root:
        return _ROOT
    names = _group_lines((who.gid, *who.groups))
    if who.uid == 0:
        return GuestIdentity(0, who.gid, who.groups, group_lines=names)
    return GuestIdentity(who.uid, who.gid, who.groups, _passwd_line(who.uid, who.gid), names)


def _passwd_line(uid: int, gid: int) -> bytes:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return os.fsencode(f"user{uid}:x:{uid}:{gid}::/:/bin/sh")
    return os.fsencode(":".join((entry.pw_name, "x", str(uid), str(gid), entry.pw_gecos, entry.pw_dir, entry.pw_shell)))


def _group_lines(gids: tuple[int, ...]) -> tuple[bytes, ...]:
    return tuple(os.fsencode(f"{group_name(gid)}:x:{gid}:") for gid in dict.fromkeys(gids))


def limits(all_limits: Sequence[tuple[int, int]]) -> tuple[Limit, ...]:
    """Resource limits as `process.limits` gives them, for the guest."""
    return tuple(Limit(number, _unsigned(soft), _unsigned(hard)) for number, (soft, hard) in enumerate(all_limits))


def _unsigned(value: int) -> int:
    return UNLIMITED if value == resource.RLIM_INFINITY else value
