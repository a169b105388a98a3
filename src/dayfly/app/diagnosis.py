"""Checks everything that Dayfly depends on, and says how to fix it: `dayfly doctor`."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dayfly import files, principal, process
from dayfly import settings as site
from dayfly.errors import DayflyError, in_words
from dayfly.image.search import Libraries
from dayfly.image.trust.judging import list_problem
from dayfly.image.trust.subscriptions import known
from dayfly.job.records import Records
from dayfly.machine.config import CpuModel
from dayfly.machine.processes import running
from dayfly.policy.permission import policies
from dayfly.provision import accelerator
from dayfly.provision.agent import AGENT_ARCHIVE
from dayfly.provision.host import host_memory
from dayfly.provision.templates.lookup import stores
from dayfly.provision.templates.maintenance import stored
from dayfly.settings import Settings
from dayfly.units import format_size

OLDEST_QEMU = (7, 2)
_VERSION = re.compile(r"version (\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?")
_LEAST_SPACE = 1024**3


class Health(StrEnum):
    """`FAILED`: no job can run. `WARNING`: something else cannot be done, or not as well."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class Finding:
    """What one check found, and how to fix it."""

    check: str
    health: Health
    found: str
    fix: str = ""


def examine() -> Iterator[Finding]:
    """Run every check. A check that fails unexpectedly is a finding too, and does not end the others."""
    try:
        settings = site.load()
    except DayflyError as error:
        yield Finding("settings", Health.FAILED, str(error), "correct the file")
        return
    checks: tuple[Callable[[Settings], Finding], ...] = (
        _qemu,
        _sharing,
        _kvm,
        _agent,
        _scratch,
        _formatter,
        _memory,
        _images,
        _templates,
        _lists,
        _policy,
        _builders,
        _importers,
        _disks,
        _subordinate_ids,
        _namespaces,
        _stale_machines,
        _lost_jobs,
    )
    needed_to_run = (_qemu, _sharing, _agent, _scratch, _formatter, _memory, _policy)
    for check in checks:
        try:
            yield check(settings)
        except (DayflyError, OSError) as error:
            health = Health.FAILED if check in needed_to_run else Health.WARNING
            yield Finding(check.__name__.strip("_").replace("_", " "), health, in_words(error))


def _templates(settings: Settings) -> Finding:
    """Whether jobs can be cloned from templates; where not, they boot."""
    if settings.templates_limit == 0:
        return Finding("templates", Health.OK, "disabled: templates.limit is 0")
    trouble = [problem for store in stores(settings) if (problem := store.trouble())]
    if trouble:
        return Finding(
            "templates", Health.WARNING, trouble[0], "check the folder's owner, and chmod go-w; until then every start is cold"
        )
    count = sum(len(stored(store)) for store in stores(settings))
    return Finding("templates", Health.OK, f"{count}, at most {format_size(settings.templates_limit)} of your own")


def _lists(settings: Settings) -> Finding:
    """Whether the lists that images came by are valid."""
    libraries = Libraries(settings)
    found = [
        (name, list_problem(library.layout, name, subscription, time.time(), weak=library.weak_lists))
        for library in (libraries.system, libraries.user)
        for name, subscription in known(library).lists.items()
    ]
    wrong = [problem for _, problem in found if problem]
    if wrong:
        return Finding("image lists", Health.WARNING, "; ".join(wrong), "`dayfly trust update` fetches newer versions")
    return Finding("image lists", Health.OK, f"{len(found)} valid" if found else "none")


def _policy(settings: Settings) -> Finding:
    """Whether the policy can be used: an unusable one denies every machine."""
    return Finding("policy", Health.OK, ", ".join(policy.place for policy in policies(settings, principal.current())))


def parse_version(text: str) -> tuple[int, ...]:
    """`(7, 2, 22)` from the output of `qemu-system-x86_64 --version`; empty if there is no version."""
    match = _VERSION.search(text)
    return tuple(int(part) for part in match.groups() if part) if match else ()


def _qemu(settings: Settings) -> Finding:
    path = process.find(settings.machine_qemu, "qemu-system-x86")
    version = parse_version(process.run([path, "--version"]).output.decode(errors="replace"))
    text = f"{path}, version {'.'.join(map(str, version)) or 'unknown'}"
    if version < OLDEST_QEMU:
        return Finding("QEMU", Health.FAILED, text, "install QEMU 7.2 or later")
    return Finding("QEMU", Health.OK, text)


def _sharing(settings: Settings) -> Finding:
    path = process.find(settings.machine_qemu, "qemu-system-x86")
    devices = process.run([path, "-machine", "none", "-device", "help"]).output.decode(errors="replace")
    missing = [name for name in ("virtio-9p-pci", "virtio-blk-pci", "virtserialport") if f'"{name}"' not in devices]
    if missing:
        return Finding(
            "QEMU's devices", Health.FAILED, f"{', '.join(missing)} missing", "install a QEMU that was built with them"
        )
    return Finding("QEMU's devices", Health.OK, "shared folders (9p), disks and the channel are available")


def _kvm(settings: Settings) -> Finding:
    device = accelerator.KVM_DEVICE
    if settings.machine_accelerator == "tcg":
        return Finding("KVM", Health.OK, "disabled: machine.accelerator is tcg, machines are emulated")
    slow = "machines are emulated: Python computes some 20 times slower, starting programs takes some 40 times as long"
    if not Path(device).exists():
        return Finding(
            "KVM", Health.WARNING, f"no {device}: {slow}", "enable virtualisation in the firmware; modprobe kvm_intel, or kvm_amd"
        )
    if not accelerator.openable():
        return Finding(
            "KVM",
            Health.WARNING,
            f"{principal.current().name()} may not use {device}: {slow}",
            "join the group kvm, log in again",
        )
    found = accelerator.Verdict(settings.cache_folder, CpuModel(settings.machine_cpu_model)).read()
    if found is None:
        return Finding("KVM", Health.OK, f"{device} can be used; the first job shows whether guests start")
    said = f"\n{found.said}" if found.said else ""
    if found.cpu is None:
        said = f"{device} is there, but a guest did not start with it: {slow}{said}"
        return Finding("KVM", Health.WARNING, said, "if this host is a VM, its hypervisor must allow nesting")
    if said:
        return Finding("KVM", Health.OK, f"guests run under KVM with the CPU {found.cpu}; the host's own does not work:{said}")
    return Finding("KVM", Health.OK, f"guests run under KVM with the CPU {found.cpu}")


def _agent(_: Settings) -> Finding:
    if not os.access(AGENT_ARCHIVE, os.R_OK):
        return Finding(
            "guest agent",
            Health.FAILED,
            f"{AGENT_ARCHIVE} is missing",
            "install Dayfly by pip, which builds it (with a C compiler)",
        )
    return Finding("guest agent", Health.OK, format_size(AGENT_ARCHIVE.stat().st_size))


def _scratch(settings: Settings) -> Finding:
    folder = settings.scratch_folder
    os.close(files.unnamed(folder))
    space = os.statvfs(folder)
    free = space.f_bavail * space.f_frsize
    text = f"{format_size(free)} free in {folder}"
    if free < _LEAST_SPACE:
        return Finding("scratch", Health.WARNING, text, "make room, or set scratch.folder in the settings to another folder")
    return Finding("scratch", Health.OK, text)


def _formatter(_: Settings) -> Finding:
    return Finding("mke2fs", Health.OK, process.find("mke2fs", "e2fsprogs"))


def _memory(settings: Settings) -> Finding:
    memory = host_memory()
    text = f"{format_size(memory)} at most for a machine; {format_size(settings.machine_memory)} by default"
    if memory < settings.machine_memory:
        return Finding("memory", Health.FAILED, text, "set machine.memory lower in the settings")
    return Finding("memory", Health.OK, text)


def _images(settings: Settings) -> Finding:
    images = Libraries(settings).images()
    broken = [image.name or image.digest for image in images if image.config is None]
    if broken:
        return Finding("images", Health.WARNING, f"{', '.join(broken)} cannot be run", "`dayfly image verify` says why")
    if not images:
        return Finding("images", Health.WARNING, "none yet", "`dayfly image build debian:12` makes one")
    return Finding("images", Health.OK, f"{len(images)} in the two libraries")


def _builders(_: Settings) -> Finding:
    needed = {
        "mmdebstrap": "mmdebstrap",
        "mkfs.erofs": "erofs-utils",
        "unshare": "util-linux",
        "newuidmap": "uidmap",
        "depmod": "kmod",
    }
    missing = [package for program, package in needed.items() if not _installed(program, package)]
    if missing:
        return Finding("building images", Health.WARNING, "programs are missing", f"install {' '.join(missing)}")
    return Finding("building images", Health.OK, "all programs are installed")


def _importers(_: Settings) -> Finding:
    if not _installed("skopeo", "skopeo"):
        found = "registries cannot be used; other container images can be imported"
        return Finding("importing container images", Health.WARNING, found, "install skopeo")
    return Finding("importing container images", Health.OK, "registries can be used")


def _disks(_: Settings) -> Finding:
    if not _installed("qemu-img", "qemu-utils"):
        return Finding("importing disks", Health.WARNING, "disks cannot be converted", "install qemu-utils")
    return Finding("importing disks", Health.OK, "qemu-img is installed")


def _installed(program: str, package: str) -> bool:
    try:
        process.find(program, package)
    except DayflyError:
        return False
    return True


def _subordinate_ids(_: Settings) -> Finding:
    user = principal.current().name()
    counts = [subordinate(Path(path), user, os.getuid()) for path in ("/etc/subuid", "/etc/subgid")]
    if min(counts) < 65536:
        fix = f"usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user} (or another free range)"
        return Finding("subordinate ids", Health.WARNING, f"{user} has {min(counts)}; building images needs 65536", fix)
    return Finding("subordinate ids", Health.OK, f"{user} has {min(counts)}")


def subordinate(path: Path, user: str, uid: int) -> int:
    """The number of a user's ids in a file in the format of subuid(5)."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return 0
    fields = [line.split(":") for line in lines]
    return sum(int(field[2]) for field in fields if len(field) == 3 and field[0] in (user, str(uid)) and field[2].isdecimal())


def _namespaces(_: Settings) -> Finding:
    for name, bad in (("user/max_user_namespaces", "0"), ("kernel/apparmor_restrict_unprivileged_userns", "1")):
        path = Path("/proc/sys", name)
        if os.getuid() != 0 and path.exists() and path.read_text().strip() == bad:
            setting = name.replace("/", ".")
            fix = f"sysctl {setting}={65536 if bad == '0' else 0}"
            return Finding("user namespaces", Health.WARNING, f"{setting} is {bad}; building images needs them", fix)
    return Finding("user namespaces", Health.OK, "allowed")


def _stale_machines(_: Settings) -> Finding:
    stale = [machine for machine in running() if machine.owner == 1]
    if stale:
        pids = " ".join(str(machine.pid) for machine in stale)
        return Finding("stale machines", Health.WARNING, f"{len(stale)} run without their job: {pids}", f"kill {pids}")
    return Finding("stale machines", Health.OK, "none")


def _lost_jobs(settings: Settings) -> Finding:
    lost = [record.id for record in Records(settings.records_folder).running() if record.state == "lost"]
    if lost:
        return Finding("lost jobs", Health.OK, f"{len(lost)} were killed together with dayfly: `dayfly usage list --state lost`")
    return Finding("lost jobs", Health.OK, "none")
