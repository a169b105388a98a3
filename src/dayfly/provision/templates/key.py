"""The key of a template: everything that a clone must have in common with the saved machine. Pure, except for `program`."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping

from dayfly.machine.command import render
from dayfly.machine.config import Accelerator, MachineConfig, Share, Start
from dayfly.machine.resources import DiskFile, Endpoints, OpenResources
from dayfly.process import Lifetime
from dayfly.values import dataclass, replace

_FORMAT = "1"
_NO_ENDS = Endpoints(0, 0, 0, 0)


@dataclass(frozen=True)
class Key:
    """The facts of a template, by name. `name` is short, and equal for equal facts; all facts are compared when a template is
    opened.
    """

    facts: Mapping[str, str]
    name: str


def key(config: MachineConfig, qemu: str, content: Mapping[str, str]) -> Key:
    """The key of the template for machines like this one. `content` are the digests of the disks, kernel and agent.

    The machine's command line is part of it, without the parts that differ for each machine. So any change of a device, the
    CPU or the kernel's command line makes another template.
    """
    shares = tuple(Share(share.tag, "", "", readonly=False) for share in config.shares)
    alike = replace(config, identity="", label="", shares=shares, mac="", start=Start.BOOT, lifetime=Lifetime.OWNED)
    no_files = OpenResources(tuple(DiskFile(0) for _ in config.disks), kernel=0, initramfs=0)
    facts = {
        "format": _FORMAT,
        "qemu": program(qemu),
        "processor": _processor() if config.accelerator is Accelerator.KVM else "",
        "machine": "\n".join(render(os.path.realpath(qemu), alike, no_files, _NO_ENDS)),
        **content,
    }
    text = "\n".join(f"{name}={value}" for name, value in sorted(facts.items()))
    return Key(facts, f"{content['image'].rpartition(':')[2][:12]}-{zlib.crc32(text.encode()):08x}")


def program(path: str) -> str:
    """An identifier of this QEMU that changes with an upgrade: running it for its version would take longer than a clone's start.

    The time is that of the package's build, so hosts with the same package agree on it. The path has its links resolved:
    `/bin` and `/usr/bin` of a caller's PATH are the same folder.
    """
    path = os.path.realpath(path)
    status = os.stat(path)  # noqa: PTH116 (on the way to every job's start)
    return f"{path} {status.st_size} {status.st_mtime_ns}"


def _processor() -> str:
    """The host's CPU: with KVM the guest sees it, and a saved machine runs on no other CPU."""
    fields = ("vendor_id", "cpu family", "model", "stepping", "microcode", "flags")
    with open("/proc/cpuinfo") as file:  # noqa: PTH123 (on the way to every job's start)
        first = file.read().partition("\n\n")[0].splitlines()
    lines = [line for line in first if line.partition("\t")[0].strip() in fields]
    return "\n".join([os.uname().release, *lines])
