"""The account files of an image: passwd(5), group(5), shadow(5), gshadow(5), as text in and text out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dayfly.errors import Refused
from dayfly.imagebuild.recipe import RecipeUser

FILES = ("etc/passwd", "etc/group", "etc/shadow", "etc/gshadow")


@dataclass(frozen=True)
class Accounts:
    """The lines of the four files, each split at its colons."""

    passwd: tuple[tuple[str, ...], ...]
    group: tuple[tuple[str, ...], ...]
    shadow: tuple[tuple[str, ...], ...]
    gshadow: tuple[tuple[str, ...], ...]

    @classmethod
    def read(cls, texts: Mapping[str, str]) -> Accounts:
        """The accounts of an image; a missing file counts as empty."""
        return cls(*(tuple(tuple(line.split(":")) for line in texts.get(name, "").splitlines() if line) for name in FILES))

    def write(self) -> dict[str, str]:
        """The files' texts."""
        tables = (self.passwd, self.group, self.shadow, self.gshadow)
        return {name: "".join(":".join(line) + "\n" for line in table) for name, table in zip(FILES, tables, strict=True)}

    def uid(self, name: str) -> int:
        """The number of a user. Raises `Refused`."""
        return _number(name, self.passwd, "user")

    def gid(self, name: str) -> int:
        """The number of a group. Raises `Refused`."""
        return _number(name, self.group, "group")

    def dated(self, day: int) -> Accounts:
        """The accounts with the same date of the last change for all passwords, so that the image does not tell when it was
        built.
        """
        lines = tuple((*line[:2], str(day), *line[3:]) if len(line) > 2 and line[2].isdecimal() else line for line in self.shadow)
        return Accounts(self.passwd, self.group, lines, self.gshadow)

    def adding(self, users: Iterable[RecipeUser], day: int) -> Accounts:
        """The accounts with these users added: without a password, each with a group of its own. Raises `Refused`."""
        accounts = self
        for user in users:
            accounts = accounts._adding(user, day)
        return accounts

    def _adding(self, user: RecipeUser, day: int) -> Accounts:
        for line in self.passwd:
            if line[0] == user.name or (len(line) > 2 and line[2] == str(user.uid)):
                raise Refused(f"{user.name} ({user.uid}) cannot be added: the image has a user {line[0]} ({line[2]})")
        own = (user.name, "x", str(user.gid), "")
        group, gshadow = self.group, self.gshadow
        if not any(len(line) > 2 and line[2] == str(user.gid) for line in group):
            if any(line[0] == user.name for line in group):
                raise Refused(f"the image has a group {user.name} with a number other than {user.gid}")
            group, gshadow = (*group, own), (*gshadow, (user.name, "!", "", ""))
        for name in user.groups:
            self.gid(name)
        return Accounts(
            (*self.passwd, (user.name, "x", str(user.uid), str(user.gid), "", user.home, user.shell)),
            tuple(_with_member(line, user) for line in group),
            (*self.shadow, (user.name, "!", str(day), "0", "99999", "7", "", "", "")),
            tuple(_with_member(line, user) for line in gshadow),
        )


def _with_member(line: tuple[str, ...], user: RecipeUser) -> tuple[str, ...]:
    if line[0] not in user.groups or len(line) < 4:
        return line
    return (*line[:3], ",".join(filter(None, (line[3], user.name))))


def _number(name: str, table: tuple[tuple[str, ...], ...], kind: str) -> int:
    if name.isdecimal():
        return int(name)
    for line in table:
        if line[0] == name and len(line) > 2 and line[2].isdecimal():
            return int(line[2])
    raise Refused(f"the image has no {kind} {name}")
