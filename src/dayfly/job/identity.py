"""Who the job is in the guest: the caller, under the same numbers and names, with the caller's limits."""

from __future__ import annotations

import grp
import os
import pwd
import resource
from collections.abc import Sequence

from dayfly.machine.guest.protocol import UNLIMITED, GuestIdentity, Limit

_ROOT = GuestIdentity(0, 0, (0,))


def caller(*, root: bool) -> GuestIdentity:
    """The calling user, or root inside the machine. Root inside has no more rights on shared folders than the caller has."""
    uid, gid = os.getuid(), os.getgid()
    if root or uid == 0:
        return _ROOT if root else GuestIdentity(0, gid, tuple(os.getgroups()), group_lines=_group_lines((gid, *os.getgroups())))
    groups = tuple(os.getgroups())
    return GuestIdentity(uid, gid, groups, _passwd_line(uid, gid), _group_lines((gid, *groups)))


def home() -> str:
    """The caller's home directory, as the passwd database has it."""
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return "/"


def name() -> str:
    """The caller's name; the number where it has none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _passwd_line(uid: int, gid: int) -> bytes:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return os.fsencode(f"user{uid}:x:{uid}:{gid}::/:/bin/sh")
    return os.fsencode(":".join((entry.pw_name, "x", str(uid), str(gid), entry.pw_gecos, entry.pw_dir, entry.pw_shell)))


def _group_lines(gids: tuple[int, ...]) -> tuple[bytes, ...]:
    return tuple(os.fsencode(f"{group_name(gid)}:x:{gid}:") for gid in dict.fromkeys(gids))


def group_name(gid: int) -> str:
    """A group's name; made of the number where it has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"group{gid}"


def limits(all_limits: Sequence[tuple[int, int]]) -> tuple[Limit, ...]:
    """Resource limits as `process.limits` gives them, for the guest."""
    return tuple(Limit(number, _unsigned(soft), _unsigned(hard)) for number, (soft, hard) in enumerate(all_limits))


def _unsigned(value: int) -> int:
    return UNLIMITED if value == resource.RLIM_INFINITY else value
