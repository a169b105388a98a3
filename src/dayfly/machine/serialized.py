"""A machine's configuration as JSON, to be stored and compared. docs/reference/snapshot.md describes it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from dayfly.errors import Refused
from dayfly.guest.boot import BootMode
from dayfly.machine.config import Accelerator, CpuModel, Disk, MachineConfig, Network, Shape, Share, Start
from dayfly.process import Lifetime

VERSION = 2
Kind = TypeVar("Kind", bound=StrEnum)
_FIELDS = {
    *("version", "identity", "label", "accelerator", "cpu", "cpus", "memory", "boot", "command_line"),
    *("disks", "shares", "network", "mac", "start", "lifetime"),
}


def render(config: MachineConfig) -> dict[str, object]:
    """The configuration as values of JSON."""
    return {
        "version": VERSION,
        "identity": config.identity,
        "label": config.label,
        "accelerator": str(config.accelerator),
        "cpu": str(config.cpu),
        "cpus": config.shape.cpus,
        "memory": config.shape.memory,
        "boot": str(config.boot),
        "command_line": config.command_line,
        "disks": [
            {"role": disk.role, "filesystem": disk.filesystem, "readonly": disk.readonly, "overlay": disk.overlay}
            for disk in config.disks
        ],
        "shares": [
            {"tag": share.tag, "source": share.source, "target": share.target, "readonly": share.readonly}
            for share in config.shares
        ],
        "network": str(config.network),
        "mac": config.mac,
        "start": str(config.start),
        "lifetime": str(config.lifetime),
    }


def parse(value: object) -> MachineConfig:
    """Read what `render` wrote. Raises `Refused` for anything else."""
    fields = _mapping(value, "a machine's configuration")
    if fields.get("version") != VERSION or isinstance(fields["version"], bool):
        raise Refused(f"a machine's configuration has the version {fields.get('version')!r} instead of {VERSION}")
    if fields.keys() != _FIELDS:
        raise Refused(f"a machine's configuration has wrong fields: {', '.join(sorted(map(str, fields.keys() ^ _FIELDS)))}")
    return MachineConfig(
        identity=_text(fields, "identity"),
        label=_text(fields, "label"),
        accelerator=_choice(fields, "accelerator", Accelerator),
        cpu=_choice(fields, "cpu", CpuModel),
        shape=Shape(_number(fields, "cpus"), _number(fields, "memory")),
        boot=_choice(fields, "boot", BootMode),
        command_line=_text(fields, "command_line"),
        disks=tuple(_disk(one) for one in _list(fields, "disks")),
        shares=tuple(_share(one) for one in _list(fields, "shares")),
        network=_choice(fields, "network", Network),
        mac=_text(fields, "mac"),
        start=_choice(fields, "start", Start),
        lifetime=_choice(fields, "lifetime", Lifetime),
    )


def _disk(value: object) -> Disk:
    fields = _mapping(value, "a disk")
    return Disk(_text(fields, "role"), _text(fields, "filesystem"), _truth(fields, "readonly"), _truth(fields, "overlay"))


def _share(value: object) -> Share:
    fields = _mapping(value, "a share")
    return Share(_text(fields, "tag"), _text(fields, "source"), _text(fields, "target"), _truth(fields, "readonly"))


def _mapping(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise Refused(f"{what} is not an object")
    return value


def _list(fields: Mapping[str, object], name: str) -> list[object]:
    value = fields.get(name)
    if not isinstance(value, list):
        raise Refused(f"{name} of a machine's configuration is not a list")
    return value


def _text(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise Refused(f"{name} of a machine's configuration is not text")
    return value


def _number(fields: Mapping[str, object], name: str) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 63:
        raise Refused(f"{name} of a machine's configuration is not a positive number")
    return value


def _truth(fields: Mapping[str, object], name: str) -> bool:
    value = fields.get(name)
    if not isinstance(value, bool):
        raise Refused(f"{name} of a machine's configuration is neither true nor false")
    return value


def _choice(fields: Mapping[str, object], name: str, kinds: type[Kind]) -> Kind:
    try:
        return kinds(_text(fields, name))
    except ValueError as error:
        raise Refused(f"{name} of a machine's configuration is unknown: {fields.get(name)!r}") from error
