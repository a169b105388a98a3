"""Read-only filesystems for an image's root: size, time to make, and CPU time to start from it and to read it in a machine.

    python -m bench.rootfs IMAGE

makes filesystems of each kind from the files of an image in a library, and boots each of them with the image's own kernel under
software emulation, with only QEMU and a busybox as init. It measures the CPU time of QEMU, which depends less on other load than
the elapsed time does, and subtracts that of a machine that only mounts the root.

Needs: qemu-system-x86, busybox-static, erofs-utils, squashfs-tools. The results are in docs/decisions/0021-erofs-for-roots.md.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dayfly import settings
from dayfly.guest.initramfs import Entry, archive, directory, regular
from dayfly.image.library import OpenImage
from dayfly.image.search import Libraries

BUSYBOX = "/bin/busybox"
ROUNDS = 5
PROGRAMS = (
    "ls -lR /etc > /dev/null; perl -e 'use POSIX; use Data::Dumper'; grep -c x /etc/passwd; curl -V > /dev/null; python3 -V"
)
TASKS = {
    "mount": "true",
    "start": f'chroot /root /bin/bash -c "{PROGRAMS}"',
    "read all": "find /root -xdev -type f -exec cat {} + > /dev/null",
}
INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev; mount -t proc proc /proc
while read -r module; do insmod "/modules/$module" 2> /dev/null; done < /modules/load
mount -t {form} -o ro /dev/vda /root || echo FAILED to mount
mount -t devtmpfs dev /root/dev
{task} || echo FAILED to run
poweroff -f
"""


@dataclass(frozen=True)
class Kind:
    """One way to make a filesystem."""

    name: str
    form: str
    command: tuple[str, ...]


def erofs(name: str, *options: str) -> Kind:
    return Kind(f"erofs {name}", "erofs", ("mkfs.erofs", "--quiet", *options, "{target}", "{folder}"))


def squashfs(name: str, *options: str) -> Kind:
    return Kind(
        f"squashfs {name}", "squashfs", ("mksquashfs", "{folder}", "{target}", "-noappend", "-quiet", "-no-progress", *options)
    )


KINDS = (
    erofs("plain"),
    erofs("lz4", "-zlz4"),
    erofs("lz4hc,9", "-zlz4hc,9"),
    erofs("lz4hc,9, 16 KiB", "-zlz4hc,9", "-C16384"),
    erofs("lz4hc,9, 64 KiB", "-zlz4hc,9", "-C65536"),
    squashfs("lz4hc", "-comp", "lz4", "-Xhc"),
    squashfs("zstd-3", "-comp", "zstd", "-Xcompression-level", "3"),
    squashfs("zstd-3, 32 KiB", "-comp", "zstd", "-Xcompression-level", "3", "-b", "32768"),
)


def cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def timed(command: list[str]) -> float:
    before = cpu_of_children()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    return cpu_of_children() - before


def boot(image: OpenImage, modules: Path, disk: Path, form: str, task: str, folder: Path) -> float:
    """CPU seconds of a machine that runs this task and ends."""
    entries = [directory(name) for name in ("bin", "dev", "proc", "root")]
    entries += [regular("bin/busybox", Path(BUSYBOX).read_bytes(), mode=0o755)]
    entries += [
        regular("init", INIT.format(form=form, task=task).encode(), mode=0o755),
        Entry("dev/console", 0o020600, device=(5, 1)),
    ]
    assert image.kernel is not None
    initramfs = folder / "initramfs"
    initramfs.write_bytes(archive(entries) + modules.read_bytes())
    command = [
        "qemu-system-x86_64",
        "-accel",
        "tcg",
        "-machine",
        "q35",
        "-cpu",
        "max",
        "-m",
        "512",
        "-nodefaults",
        "-no-user-config",
    ]
    command += [
        "-display",
        "none",
        "-serial",
        "stdio",
        "-no-reboot",
        "-kernel",
        str(image.kernel.path),
        "-initrd",
        str(initramfs),
    ]
    command += ["-append", "console=ttyS0 quiet panic=-1", "-drive", f"if=virtio,format=raw,readonly=on,file={disk}"]
    before = cpu_of_children()
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
    if "FAILED" in output:
        raise SystemExit(output)
    return cpu_of_children() - before


def main() -> None:
    with Libraries(settings.load()).open(sys.argv[1]) as image, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files, modules = folder / "files", folder / "modules"
        subprocess.run(["fsck.erofs", f"--extract={files}", image.root.path], check=True, stdout=subprocess.DEVNULL)
        assert image.boot_modules
        modules.write_bytes(os.pread(image.boot_modules.file, image.boot_modules.size, 0))
        disks = {kind: folder / f"disk{number}" for number, kind in enumerate(KINDS)}
        made = {kind: timed([part.format(target=disk, folder=files) for part in kind.command]) for kind, disk in disks.items()}
        least: dict[tuple[Kind, str], float] = {}
        for number in range(ROUNDS):  # in rounds, so that other load of the host affects all kinds equally
            for kind, disk in disks.items():
                for task, script in TASKS.items():
                    spent = boot(image, modules, disk, kind.form, script, folder)
                    least[kind, task] = min(spent, least.get((kind, task), spent))
            print(f"round {number + 1} of {ROUNDS}", file=sys.stderr, flush=True)
        print("| filesystem | MB | made, CPU s | boot and mount, CPU s | start of programs, CPU s | read all, CPU s |")
        print("|---|---|---|---|---|---|")
        for kind, disk in disks.items():
            base = least[kind, "mount"]
            more = [least[kind, task] - base for task in ("start", "read all")]
            numbers = [f"{disk.stat().st_size / 1e6:.1f}", f"{made[kind]:.1f}", *(f"{value:.2f}" for value in (base, *more))]
            print(f"| {kind.name} | {' | '.join(numbers)} |")
        shutil.rmtree(files)


if __name__ == "__main__":
    main()
